# Sandboxing of the units (systemd.exec(5)), with the reason for each permission. Builtins only.
let
  # For every unit. All run as root: the state directory, Docker's socket and systemd's private
  # socket belong to root, and a user who can use Docker's socket is root in effect.
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
    # Sockets of Docker and systemd; probes and git. Nothing else, not even netlink.
    RestrictAddressFamilies = [
      "AF_UNIX"
      "AF_INET"
      "AF_INET6"
    ];
    # Neither PrivateNetwork= nor IPAddressDeny=: probes connect to the host's own listeners, and
    # releases and images come from the network.
  };

  # Units that only send probes and query systemd.
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
  # Units that use Docker and probe containers from inside their networks.
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
    # With setns(2), which is part of @process; without most calls that use CAP_SYS_ADMIN.
    SystemCallFilter = [
      "@system-service"
      "~@privileged @resources @mount @debug"
    ];
  };

  inherit onlooker;

  # The unit that may restart Docker: it uses the sockets of Docker and systemd, and reads Docker's
  # processes.
  restarter = onlooker // {
    PrivateNetwork = true;
    ProtectProc = "default";
    RestrictAddressFamilies = "AF_UNIX";
  };

  # abra keeps its files in root's home directory: they can be read, and nothing else there is
  # visible. With ProtectHome=yes the directories would exist but be unreadable; with tmpfs the
  # program reports a missing directory. A directory that can't be bound ("-") is no failure:
  # last-good still serves.
  home =
    abra:
    {
      ProtectHome = "tmpfs";
    }
    // (if abra == [ ] then { } else { BindReadOnlyPaths = map (directory: "-${directory}") abra; });
}
