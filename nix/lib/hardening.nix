# What a unit of this project may not do, and for each thing that it may: why. Builtins only.
# The directives are systemd.exec(5)'s.
let
  # For every unit. It runs as root: the state directory, the engine's socket and systemd's private
  # socket are root's, and whoever may use the engine's socket is root in effect.
  common = {
    NoNewPrivileges = true;
    ProtectSystem = "strict";
    PrivateTmp = true;
    PrivateDevices = true;
    PrivateMounts = true;
    ProtectClock = true;
    ProtectControlGroups = true;
    ProtectHostname = true;
    ProtectKernelLogs = true;
    ProtectKernelModules = true;
    ProtectKernelTunables = true;
    ProtectProc = "invisible";
    ProcSubset = "pid";
    KeyringMode = "private";
    LockPersonality = true;
    MemoryDenyWriteExecute = true;
    RestrictRealtime = true;
    RestrictSUIDSGID = true;
    RemoveIPC = true;
    UMask = "0077";
    SystemCallArchitectures = "native";
    SystemCallErrorNumber = "EPERM";
    # Sockets of the engine and of systemd; probes and git. Nothing else, not even netlink.
    RestrictAddressFamilies = [
      "AF_UNIX"
      "AF_INET"
      "AF_INET6"
    ];
    # Not PrivateNetwork= nor IPAddressDeny=: what is asked are the host's own listeners, and
    # releases and images come from the network.
  };

  # Units that only ask over HTTP, and systemd.
  onlooker = common // {
    CapabilityBoundingSet = "";
    RestrictNamespaces = true;
    SystemCallFilter = [
      "@system-service"
      "~@privileged @resources"
    ];
    ProtectHome = true;
  };
in
{
  # Units that ask the engine, and the containers from inside.
  engine = common // {
    # CAP_SYS_ADMIN: setns(2) into the network namespace of a container. CAP_SYS_PTRACE: to open
    # /proc/PID/ns/net of a process that has capabilities or a user of its own; with it
    # ProtectProc=invisible hides nothing from us that is needed.
    CapabilityBoundingSet = [
      "CAP_SYS_ADMIN"
      "CAP_SYS_PTRACE"
    ];
    # Network namespaces may be entered, all others may not.
    RestrictNamespaces = "net";
    # With setns(2), which is part of @process; without most of what makes use of CAP_SYS_ADMIN.
    SystemCallFilter = [
      "@system-service"
      "~@privileged @resources @mount @debug"
    ];
  };

  inherit onlooker;

  # The unit that may start the engine again: it asks the engine and systemd, over their sockets, and
  # looks at the engine's processes.
  restarter = onlooker // {
    PrivateNetwork = true;
    ProtectProc = "default";
    RestrictAddressFamilies = "AF_UNIX";
  };

  # abra keeps its files in the home of root: they may be read, and nothing else there is seen.
  # Not ProtectHome=yes, which leaves directories that can't be looked into: "not there" is what the
  # program has words for. Nothing to bind is no failure here either: last-good still serves.
  home =
    abra:
    {
      ProtectHome = "tmpfs";
    }
    // (if abra == [ ] then { } else { BindReadOnlyPaths = map (directory: "-${directory}") abra; });
}
