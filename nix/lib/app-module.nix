# Makes the NixOS module of an app behind Traefik: a unit after deploy-proxy.service (which never
# waits for it), and a gate on the tasks of the app.
{
  app, # name of its config
  key, # services.KEY, and KEY.service
  title,
  host ? null, # what Traefik routes to it; null: nothing
  port ? null, # of its tasks, in their own network; null: the host has to say
  path ? "/",
  status ? 200,
  deadline ? 90, # seconds
}:
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  cfg = config.services.${key};
  unit = "${key}.service";
in
{
  imports = [ ../modules/warm-reconcile.nix ];

  options.services.${key} = {
    enable = mkOption {
      type = types.bool;
      default = cfg.port != null;
      defaultText = if port == null then "whether `port` is set" else "true";
      description = "Whether ${title} is deployed.";
    };
    host = mkOption {
      type = types.nullOr types.str;
      default = host;
      description = ''
        The host name that Traefik routes to it, probed through Traefik on this host; null: it has no
        route, and only its tasks are probed.
      '';
    };
    port = mkOption {
      type = types.nullOr types.port;
      default = port;
      description = ''
        The port of its tasks, in their own network. An app without a port has nothing to probe, and
        so no gate.
      '';
    };
    path = mkOption {
      type = types.str;
      default = path;
      description = "The path that is probed at each task, and through Traefik.";
    };
    status = mkOption {
      type = types.int;
      default = status;
      description = "The expected HTTP status.";
    };
    source = mkOption {
      type = types.attrsOf types.raw;
      default = {
        kind = "abra";
        domain = if cfg.host == null then app else cfg.host;
      };
      defaultText = "the app that abra knows as `host`";
      example = {
        kind = "git";
        url = "https://git.example.com/${app}.git";
      };
      description = "The source of its releases, as in `services.warm-reconcile.apps`.";
    };
  };

  config.services.warm-reconcile.apps = lib.mkIf cfg.enable {
    ${app} = {
      inherit unit;
      inherit (cfg) source;
      description = "Deploy the latest ${title} that passes its gate, or last-good";
      platform = {
        # The preflight starts a release with empty volumes and without other stacks. A good release
        # that needs either to start would be refused.
        preflight = lib.mkDefault 0;
      }
      // (if cfg.source.kind == "abra" then { } else { stack = app; });
      probes = [
        {
          # Probes each task of this deployment: neither an old task nor another app can answer.
          kind = "task";
          name = "task";
          targetUnit = unit;
          inherit (cfg) port path status;
        }
      ]
      ++ (
        if cfg.host == null then
          [ ]
        else
          [
            {
              # Passes if Traefik has read the app's labels. The certificate is not checked here.
              kind = "http";
              name = "routed";
              targetUnit = unit;
              url = "https://${cfg.host}${cfg.path}";
              address = "127.0.0.1:443";
              verifyTls = false;
              inherit (cfg) status;
            }
          ]
      );
      gate = {
        inherit deadline;
        verifyDeadline = 45;
      };
      after = [
        "deploy-proxy.service"
        "docker.service"
        "network-online.target"
      ];
      wants = [
        "deploy-proxy.service"
        "docker.service"
        "network-online.target"
      ];
    };
  };
}
