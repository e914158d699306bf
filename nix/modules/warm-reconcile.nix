# Apps that deploy-… units deploy, gate, and commit or roll back: renders typed options to configs
# and units, and refuses a gate that would wait for its own caller.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.warm-reconcile;
  configs = import ../lib/config.nix;
  units = import ../lib/unit.nix;
  json = pkgs.formats.json { };

  nullable =
    type: description: example:
    mkOption {
      type = types.nullOr type;
      default = null;
      inherit description example;
    };
  number =
    default: description:
    mkOption {
      type = types.number;
      inherit default description;
    };

  # The order of a unit among the others, and the units that start it.
  placing =
    { after, wants }:
    {
      after = mkOption {
        type = types.listOf types.str;
        default = after;
        description = "Units that it starts after.";
      };
      wants = mkOption {
        type = types.listOf types.str;
        default = wants;
        description = ''
          Units that are started with it. Not `Requires=`: see
          docs/decisions/0009-wants-not-requires.md.
        '';
      };
      wantedBy = mkOption {
        type = types.listOf types.str;
        default = [ "multi-user.target" ];
        description = "Units that start it.";
      };
      onFailure = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [ "notify@%n.service" ];
        description = "Units to start when it fails, in addition to those of every unit.";
      };
    };

  # A submodule whose keys depend on its `kind`.
  schema = builtins.fromJSON (builtins.readFile ../lib/kinds.json);
  of_kind = name: {
    options = import ../lib/kind-options.nix {
      inherit lib;
      schema = schema.${name};
    };
  };

  gate.options = {
    rise = mkOption {
      type = types.int;
      default = 3;
      description = "Consecutive rounds that must pass.";
    };
    window = number 10 "Seconds that they must span.";
    deadline = number 60 "Seconds for everything, from the deployment on.";
    verifyDeadline = number 10 ''
      Seconds for a proven release that is live already to give one good round.
    '';
    fastest = number 0.02 "Seconds of the first pause between two rounds.";
    slowest = number 1 "Seconds of the longest pause between two rounds.";
  };

  platform.options = {
    stack = nullable types.str "Name of the stack. With abra it is the one that abra uses." "traefik";
    variables = mkOption {
      type = types.attrsOf types.str;
      default = { };
      example = {
        DOMAIN = "traefik.example.com";
      };
      description = ''
        Variables of the recipe, if abra doesn't have them. Every user of the host can read them: no
        secrets.
      '';
    };
    envFileCredential = nullable types.str ''
      A file of `NAME=value` lines instead of `variables`, passed to the unit by `LoadCredential=`:
      it may have secrets, and may be readable by root alone. Never in the Nix store.
    '' "/run/secrets/traefik.env";
    service = nullable types.str ''
      The service of the recipe that the gate probes. Default: `app`.
    '' "web";
    overlay = nullable types.path ''
      A directory with `compose.gate.yml`. Default: for a gate with an `identity`, the one for
      Traefik.
    '' "/etc/overlays/web";
    socket = nullable types.path ''
      The socket of Docker. Default: `/run/docker.sock`.
    '' "/run/docker.sock";
    require = nullable (types.enum [
      "all"
      "quorum"
    ]) "How many tasks must pass. Default: `all`." "quorum";
    preflight = nullable types.number ''
      Seconds for the trial of a release in isolation; 0: no trial. Default: 20.
    '' 0;
  };

  app =
    { name, ... }:
    {
      imports = [ (lib.mkRenamedOptionModule [ "world" ] [ "platform" ]) ];
      options = {
        # mkRenamedOptionModule defines it; NixOS prints only the warnings of the outermost module.
        warnings = mkOption {
          type = types.listOf types.str;
          default = [ ];
          internal = true;
          description = "Warnings about the options of this app.";
        };
        unit = mkOption {
          type = types.str;
          default = "deploy-${name}.service";
          defaultText = "deploy-NAME.service";
          description = "The oneshot that deploys it.";
        };
        description = mkOption {
          type = types.str;
          default = "Deploy the latest ${name} that passes its gate";
          defaultText = "Deploy the latest NAME that passes its gate";
          description = "What systemd calls the unit.";
        };
        source = mkOption {
          type = types.submodule (of_kind "sources");
          example = {
            kind = "abra";
            domain = "traefik.example.com";
          };
          description = "Where releases come from.";
        };
        platform = mkOption {
          type = types.submodule platform;
          default = { };
          description = "The app's stack on Docker Swarm.";
        };
        probes = mkOption {
          type = types.listOf (types.submodule (of_kind "probes"));
          description = ''
            The probes of the gate, all sent in every round. One must be an `identity` or a `task`:
            without it an old instance could answer for a new one.
          '';
        };
        gate = mkOption {
          type = types.submodule gate;
          default = { };
          description = "The rounds and limits of the gate.";
        };
        fallbackDepth = mkOption {
          type = types.int;
          default = 2;
          description = "How many proven releases a rollback may try, newest first.";
        };
        retention = mkOption {
          type = types.submodule {
            options = {
              proven = mkOption {
                type = types.int;
                default = 4;
                description = "Proven releases kept deployable, last-good among them.";
              };
              history = mkOption {
                type = types.int;
                default = 1000;
                description = "Attempts kept in the journal.";
              };
              quarantine = number 604800 "Seconds until a release in quarantine may be tried again.";
            };
          };
          default = { };
          description = "Limits of the journal.";
        };
        budget = mkOption {
          type = types.submodule {
            options = {
              fetch = number 120 "Seconds for finding the latest release and fetching it.";
              deploy = number 60 "Seconds for one deployment.";
              margin = number 60 "Seconds for everything else.";
            };
          };
          default = { };
          description = ''
            Limits for the parts of one run. The longest run,
            fetch + verify + (deploy + gate) × (1 + fallbackDepth) + margin, must be shorter than
            `timeoutStart`: otherwise the configuration is refused.
          '';
        };
        timeoutStart = number 900 "Seconds: `TimeoutStartSec=` of the unit.";
      } // placing {
        after = [
          "docker.service"
          "network-online.target"
        ];
        wants = [
          "docker.service"
          "network-online.target"
        ];
      };
    };

  assertion =
    { name, ... }:
    {
      options = {
        unit = mkOption {
          type = types.str;
          default = "${name}.service";
          defaultText = "NAME.service";
          description = "The oneshot that runs the assertion.";
        };
        description = mkOption {
          type = types.str;
          default = "Assert ${name}";
          defaultText = "Assert NAME";
          description = "What systemd calls the unit.";
        };
        probes = mkOption {
          type = types.listOf (types.submodule (of_kind "assertion_probes"));
          description = "Probes that must all pass.";
        };
        gate = mkOption {
          type = types.submodule gate;
          default = { };
          description = "The rounds and limits of the assertion.";
        };
        timeoutStart = number 900 "Seconds: `TimeoutStartSec=` of the unit.";
      } // placing {
        after = [ ];
        wants = [ ];
      };
    };

  configs_of = {
    apps = builtins.mapAttrs (name: app: {
      options = app;
      config = configs.app {
        inherit name app;
        inherit (cfg) stateDirectory;
      };
    }) cfg.apps;
    assertions = builtins.mapAttrs (_: assertion: {
      options = assertion;
      config = configs.assertion assertion;
    }) cfg.assertions;
  };
  tools = [
    cfg.docker
    cfg.git
  ];
  named =
    make: entries:
    builtins.listToAttrs (map (name: make name entries.${name}) (builtins.attrNames entries));
in
{
  options.services.warm-reconcile = {
    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ../package.nix { };
      defaultText = "built from nix/package.nix";
      description = "The program. It brings its own Python.";
    };
    docker = mkOption {
      type = types.package;
      default = pkgs.docker-client;
      defaultText = "pkgs.docker-client";
      description = "Docker's command line, 25 or newer.";
    };
    git = mkOption {
      type = types.package;
      default = pkgs.gitMinimal;
      defaultText = "pkgs.gitMinimal";
      description = "The git that fetches recipes.";
    };
    stateDirectory = mkOption {
      type = types.str;
      default = "warm-reconcile";
      description = "The directory below /var/lib for journals and releases: `StateDirectory=`.";
    };
    onFailure = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "notify@%n.service" ];
      description = "Units to start when any of the units here fails.";
    };
    freePorts = mkOption {
      type = types.bool;
      default = true;
      description = ''
        Whether `docker.service` is restarted if it came up with published ports that no container
        uses, as it may after a power cut: no release could be deployed on them.
        `free-ports.service` checks this after each start of Docker, and every app's unit starts
        after it.
      '';
    };
    apps = mkOption {
      type = types.attrsOf (types.submodule app);
      default = { };
      description = "The apps, each reconciled by its own unit.";
    };
    assertions = mkOption {
      type = types.attrsOf (types.submodule assertion);
      default = { };
      description = ''
        End-to-end checks of several units, each run by its own unit that starts after those that it
        probes. An assertion deploys nothing.
      '';
    };
    sweep = {
      enable = mkOption {
        type = types.bool;
        default = false;
        description = "Whether last-good of every app is verified regularly, and the store pruned.";
      };
      onCalendar = mkOption {
        type = types.str;
        default = "*-*-* 03:30:00";
        description = "When. See systemd.time(7).";
      };
      timeoutStart = number 3600 "Seconds: `TimeoutStartSec=` of the unit.";
      onFailure = mkOption {
        type = types.listOf types.str;
        default = [ ];
        description = "Units to start when it fails, in addition to those of every unit.";
      };
    };
  };

  config = {
    assertions = map (message: {
      assertion = false;
      message = "services.warm-reconcile: ${message}";
    }) (import ../lib/assertions.nix (configs_of // {
      inherit (config) systemd;
      sweep = if cfg.sweep.enable then { unit = "nightly-sweep.service"; } else null;
    }));

    warnings = builtins.concatMap (
      name: map (warning: "services.warm-reconcile.apps.${name}: ${warning}") cfg.apps.${name}.warnings
    ) (builtins.attrNames cfg.apps);

    environment.systemPackages = [ cfg.package ];

    environment.etc =
      named (name: app: {
        name = "warm-reconcile/${name}.json";
        value.source = json.generate "${name}.json" app.config;
      }) configs_of.apps
      // named (name: assertion: {
        name = "warm-reconcile/assertions/${name}.json";
        value.source = json.generate "${name}.json" assertion.config;
      }) configs_of.assertions
      // builtins.listToAttrs (
        builtins.concatMap (
          name:
          let
            inherit (cfg.apps.${name}.platform) variables;
          in
          if variables == { } then
            [ ]
          else
            [
              {
                name = "warm-reconcile/env/${name}.env";
                value.text = configs.env_text variables;
              }
            ]
        ) (builtins.attrNames cfg.apps)
      );

    systemd.services =
      named (name: app: {
        name = units.key app.options.unit;
        value = units.deploy {
          inherit name;
          app = app.options;
          inherit (app) config;
          inherit (cfg) package stateDirectory onFailure;
          freesPorts = cfg.freePorts;
          path = tools;
        };
      }) configs_of.apps
      // (
        if cfg.freePorts && cfg.apps != { } then
          {
            free-ports = units.free_ports { inherit (cfg) package onFailure; };
          }
        else
          { }
      )
      // named (name: assertion: {
        name = units.key assertion.options.unit;
        value = units.assertion {
          inherit name;
          assertion = assertion.options;
          inherit (assertion) config;
          inherit (cfg) package onFailure;
        };
      }) configs_of.assertions
      // (
        if cfg.sweep.enable then
          {
            nightly-sweep = units.sweep {
              inherit (cfg)
                package
                stateDirectory
                onFailure
                sweep
                ;
              apps = builtins.attrValues cfg.apps;
              path = tools;
            };
          }
        else
          { }
      );

    systemd.timers =
      if cfg.sweep.enable then
        {
          nightly-sweep = {
            description = "Verify last-good of every app every night";
            wantedBy = [ "timers.target" ];
            timerConfig = {
              OnCalendar = cfg.sweep.onCalendar;
              RandomizedDelaySec = 900;
              # If the host was off at that time, the sweep runs after its next boot.
              Persistent = true;
            };
          };
        }
      else
        { };
  };
}
