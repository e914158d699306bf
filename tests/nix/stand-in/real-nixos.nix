# Imports the unit options, types and rendering of the real NixOS. Needs a checkout of nixpkgs.
{ tree }:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  utils = import "${tree}/nixos/lib/utils.nix" { inherit config lib pkgs; };
  systemd = utils.systemdUtils;
  option =
    type: default:
    lib.mkOption {
      inherit type default;
    };
  rendered =
    units: make:
    lib.mapAttrs' (_: unit: lib.nameValuePair unit.name (make unit).text) units;
in
{
  imports = [ "${tree}/nixos/modules/misc/assertions.nix" ];

  options = {
    environment.systemPackages = option (lib.types.listOf lib.types.package) [ ];
    environment.etc = option (lib.types.attrsOf (
      lib.types.submodule {
        options = {
          text = option (lib.types.nullOr lib.types.lines) null;
          source = lib.mkOption { type = lib.types.path; };
        };
      }
    )) { };
    systemd = {
      package = option lib.types.package pkgs.systemd;
      globalEnvironment = option (lib.types.attrsOf lib.types.str) { };
      services = option systemd.types.services { };
      targets = option systemd.types.targets { };
      timers = option systemd.types.timers { };
      sockets = option systemd.types.sockets { };
      paths = option systemd.types.paths { };
    };
    test.units = option (lib.types.attrsOf lib.types.str) { };
  };

  config.test.units =
    rendered config.systemd.services systemd.lib.serviceToUnit
    // rendered config.systemd.targets systemd.lib.targetToUnit
    // rendered config.systemd.timers systemd.lib.timerToUnit
    // rendered config.systemd.sockets systemd.lib.socketToUnit
    // rendered config.systemd.paths systemd.lib.pathToUnit;
}
