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
      description = "For the certificate authority; where abra manages the app, its `.env` has it.";
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
      description = "Where its releases come from, as in `services.warm-reconcile.apps`.";
    };
    onFailure = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "notify@%n.service" ];
      description = "Units to start when no proven Traefik could be made to serve.";
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
    # All of them ask Traefik itself, on its real listeners. What it routes to is asserted by
    # converge.service, which starts after those who serve it.
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
        # The name is for SNI: no certificate is asked for, and none is needed.
        kind = "identity";
        name = "web-secure";
        targetUnit = unit;
        url = "https://warm-reconcile.invalid/.warm-reconcile/identity";
        address = "127.0.0.1:443";
        verifyTls = false;
      }
      {
        # With the TLS options that all sites share that have none of their own.
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
