# Makes the systemd services of apps, assertions, the sweep and free-ports, as values of NixOS'
# `systemd.services`. Builtins only.
let
  hardening = import ./hardening.nix;

  # Started at boot, and again when its config has changed: the file in /etc is not part of the unit.
  oneshot =
    {
      options,
      onFailure,
      config,
    }:
    {
      inherit (options)
        description
        after
        wants
        wantedBy
        ;
      onFailure = onFailure ++ options.onFailure;
      restartTriggers = [ (builtins.toJSON config) ];
    };

  abra_of =
    app:
    if app.source.kind != "abra" then
      [ ]
    else if app.source.directory == null then
      [ "/root/.abra" ]
    else
      [ app.source.directory ];
  free_ports_unit = "free-ports.service";
  distinct = builtins.foldl' (found: it: if builtins.elem it found then found else found ++ [ it ]) [ ];
in
{
  # The name of a unit as a key of NixOS' options: without the type.
  key =
    unit:
    let
      parts = builtins.match "(.+)[.]service" unit;
    in
    if parts == null then throw "${unit}: expected the name of a service" else builtins.head parts;

  deploy =
    {
      name,
      app,
      config,
      package,
      path,
      stateDirectory,
      onFailure,
      freesPorts,
    }:
    let
      credential = app.platform.envFileCredential;
    in
    oneshot {
      inherit config onFailure;
      options = app;
    }
    // {
      inherit path;
      # free-ports.service may restart Docker.
      after = app.after ++ (if freesPorts then [ free_ports_unit ] else [ ]);
      serviceConfig =
        hardening.engine
        // hardening.home (abra_of app)
        // {
          Type = "oneshot";
          RemainAfterExit = true;
          ExecStart = "${package}/bin/warm_reconcile.py ${name}";
          TimeoutStartSec = app.timeoutStart;
          # Rolled back: a proven release is serving. Stranded is a failure.
          SuccessExitStatus = 12;
          StateDirectory = stateDirectory;
          StateDirectoryMode = "0700";
        }
        // (if credential == null then { } else { LoadCredential = "${name}.env:${credential}"; });
    };

  assertion =
    {
      name,
      assertion,
      config,
      package,
      onFailure,
    }:
    oneshot {
      inherit config onFailure;
      options = assertion;
    }
    // {
      serviceConfig = hardening.onlooker // {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = "${package}/bin/warm-reconcile converge ${name}";
        TimeoutStartSec = assertion.timeoutStart;
      };
    };

  # Runs whenever Docker has started, before any deployment: no release could start on ports that
  # dockerd holds for no container. WantedBy=docker.service does not tie the unit to Docker: when it
  # restarts Docker, it is neither stopped nor started again.
  free_ports =
    { package, onFailure }:
    {
      inherit onFailure;
      description = "Restart Docker if it holds ports that no container uses";
      after = [ "docker.service" ];
      wantedBy = [ "docker.service" ];
      serviceConfig = hardening.restarter // {
        Type = "oneshot";
        ExecStart = "${package}/bin/warm-reconcile free-ports";
        TimeoutStartSec = 240;
      };
    };

  # Handles every app, so its sandbox allows what any of the apps needs.
  sweep =
    {
      sweep,
      apps,
      package,
      path,
      stateDirectory,
      onFailure,
    }:
    {
      inherit path;
      description = "Verify last-good of every app, and delete unused releases and images";
      # It probes the apps. Its timer can start it during boot, if the last date was missed.
      after = map (app: app.unit) apps;
      onFailure = onFailure ++ sweep.onFailure;
      serviceConfig =
        hardening.engine
        // hardening.home (distinct (builtins.concatMap abra_of apps))
        // {
          Type = "oneshot";
          ExecStart = "${package}/bin/warm-reconcile sweep";
          TimeoutStartSec = sweep.timeoutStart;
          StateDirectory = stateDirectory;
          StateDirectoryMode = "0700";
        };
    };
}
