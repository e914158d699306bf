# deploy-proxy.service: Traefik, gated on itself and on nothing that starts after it.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.deploy-proxy;
  unit = "deploy-proxy.service";
in
{
  imports = [ ./warm-reconcile.nix ];

  options.services.deploy-proxy = {
    host = mkOption {
      type = types.str;
      default = "traefik.ci.commoninternet.net";
      description = "Traefik's own domain, by which abra knows the app.";
    };
    email = mkOption {
      type = types.str;
      default = "";
      example = "ops@example.com";
      description = "For the certificate authority; if abra manages the app, its `.env` has it.";
    };
    source = mkOption {
      type = types.attrsOf types.raw;
      default = {
        kind = "abra";
        domain = cfg.host;
      };
      defaultText = "the app that abra knows as `host`";
      example = {
        kind = "git";
        url = "https://git.coopcloud.tech/coop-cloud/traefik.git";
      };
      description = "The source of its releases, as in `services.warm-reconcile.apps`.";
    };
    onFailure = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "notify@%n.service" ];
      description = "Units to start if no proven Traefik could be brought into service.";
    };
  };

  config.services.warm-reconcile.apps.traefik = {
    inherit unit;
    inherit (cfg) source onFailure;
    description = "Deploy the latest Traefik that passes its gate, or last-good";
    platform =
      if cfg.source.kind == "abra" then
        { }
      else
        {
          stack = "traefik";
          variables = {
            DOMAIN = cfg.host;
            LETS_ENCRYPT_EMAIL = cfg.email;
          };
        };
    # All probes go to Traefik itself, on its real listeners. Its routes to apps are checked by
    # converge.service, which starts after the apps.
    probes = [
      {
        kind = "traefik-ping";
        targetUnit = unit;
        url = "http://127.0.0.1/ping";
      }
      {
        kind = "identity";
        name = "web";
        targetUnit = unit;
        url = "http://127.0.0.1/.warm-reconcile/identity";
      }
      {
        # The name is for SNI only: no certificate is requested or needed.
        kind = "identity";
        name = "web-secure";
        targetUnit = unit;
        url = "https://warm-reconcile.invalid/.warm-reconcile/identity";
        address = "127.0.0.1:443";
        verifyTls = false;
      }
      {
        # With the default TLS options, which apply to all sites without their own.
        kind = "identity";
        name = "default-tls";
        targetUnit = unit;
        url = "https://tls.warm-reconcile.invalid/.warm-reconcile/identity";
        address = "127.0.0.1:443";
        verifyTls = false;
      }
      {
        # A route that only the Swarm provider can load.
        kind = "identity";
        name = "provider";
        targetUnit = unit;
        url = "http://127.0.0.1/.warm-reconcile/provider";
      }
    ];
    gate = {
      window = 10;
      deadline = 90; # the Swarm provider looks every 15 s
      verifyDeadline = 45; # after a reboot, when last-good has just been started
    };
    timeoutStart = 900;
  };
}
