# converge.service: Traefik routes to a real backend. Asserted after the dashboard is deployed, and
# never a part of what deploy-proxy.service waits for.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.converge;
  deployed = map (app: app.unit) (builtins.attrValues config.services.warm-reconcile.apps);
in
{
  imports = [ ./warm-reconcile.nix ];

  options.services.converge = {
    url = mkOption {
      type = types.str;
      default = "https://ci.commoninternet.net/";
      description = "The URL that must answer with status 200.";
    };
    address = mkOption {
      type = types.nullOr types.str;
      default = "127.0.0.1:443";
      description = "IP address and port to connect to; null: the host name is resolved.";
    };
    targetUnit = mkOption {
      type = types.str;
      default = "deploy-dashboard.service";
      description = "The unit that serves the answer.";
    };
    verifyTls = mkOption {
      type = types.bool;
      default = true;
      description = "Whether the certificate must be valid.";
    };
    caFile = mkOption {
      type = types.nullOr types.path;
      default = "/etc/ssl/certs/ca-certificates.crt";
      description = "Certificates to trust: by default those that the host trusts.";
    };
    deadline = mkOption {
      type = types.number;
      default = 300;
      description = "Seconds; on a first boot Traefik has to obtain a certificate, too.";
    };
  };

  config.services.warm-reconcile.assertions.converge = {
    description = "Assert that Traefik routes to a real backend";
    probes = [
      {
        kind = "http";
        name = "routed";
        inherit (cfg)
          url
          address
          targetUnit
          verifyTls
          ;
        caFile = if cfg.verifyTls then cfg.caFile else null;
        status = 200;
        timeout = 5;
      }
    ];
    gate = {
      rise = 2;
      window = 1;
      inherit (cfg) deadline;
    };
    # After= all deployments, so that all have finished; no Wants=: an assertion starts nothing.
    after = [ cfg.targetUnit ] ++ builtins.filter (unit: unit != cfg.targetUnit) deployed;
    timeoutStart = cfg.deadline + 60;
  };
}
