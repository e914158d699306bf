# Implements the part of NixOS that nix/modules/ use, for machines without nixpkgs: the options that
# they define, and units as text. test_golden.py compares it with NixOS where NIXOS_TREE names one.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (builtins)
    attrNames
    concatMap
    concatStringsSep
    isList
    listToAttrs
    map
    ;
  inherit (lib) mkOption types;

  option =
    type: default:
    mkOption {
      inherit type default;
    };
  words = option (types.listOf types.str) [ ];
  section = option (types.attrsOf types.raw) { };

  # Directives of [Unit] that NixOS has options for, as lists of words.
  directives = {
    requires = "Requires";
    wants = "Wants";
    upholds = "Upholds";
    after = "After";
    before = "Before";
    bindsTo = "BindsTo";
    partOf = "PartOf";
    conflicts = "Conflicts";
    requisite = "Requisite";
    documentation = "Documentation";
    onFailure = "OnFailure";
    onSuccess = "OnSuccess";
  };

  units =
    suffix: more:
    option (types.attrsOf (
      types.submodule (
        { name, ... }:
        {
          options =
            builtins.mapAttrs (_: _: words) directives
            // listToAttrs (
              map (name: {
                inherit name;
                value = words;
              }) [ "wantedBy" "requiredBy" "upheldBy" "aliases" ]
            )
            // {
              enable = option types.bool true;
              description = option types.str "";
              unitConfig = section;
              restartTriggers = option (types.listOf types.raw) [ ];
              name = option types.str "${name}.${suffix}";
            }
            // more;
        }
      )
    )) { };

  text =
    value:
    if value == true then
      "true"
    else if value == false then
      "false"
    else
      toString value;
  lines =
    values:
    concatStringsSep "" (
      concatMap (
        name:
        map (value: "${name}=${text value}\n") (
          if isList values.${name} then values.${name} else [ values.${name} ]
        )
      ) (attrNames values)
    );

  header =
    unit:
    unit.unitConfig
    // listToAttrs (
      concatMap (
        name:
        if unit.${name} == [ ] then
          [ ]
        else if unit.unitConfig ? ${directives.${name}} then
          throw "The option `systemd.….unitConfig.${directives.${name}}' has conflicting definition values."
        else
          [
            {
              name = directives.${name};
              value = toString unit.${name};
            }
          ]
      ) (attrNames directives)
    )
    // (if unit.description == "" then { } else { Description = unit.description; })
    // (
      if unit.restartTriggers == [ ] then
        { }
      else
        {
          X-Restart-Triggers = toString (
            pkgs.writeText "X-Restart-Triggers-${builtins.head (builtins.match "(.*)[.][a-z]+" unit.name)}" (
              toString unit.restartTriggers
            )
          );
        }
    );

  render =
    unit: body:
    "[Unit]\n${lines (header unit)}"
    + (if body == null then "\n" else "\n${body}")
    + (
      if body == null || unit.wantedBy == [ ] then
        ""
      else
        "\n[Install]\nWantedBy=${toString unit.wantedBy}\n"
    );

  service =
    unit:
    let
      tools = unit.path ++ [
        pkgs.coreutils
        pkgs.findutils
        pkgs.gnugrep
        pkgs.gnused
        pkgs.systemd
      ];
      places = sub: concatStringsSep ":" (map (tool: "${tool}/${sub}") tools);
      environment = { PATH = "${places "bin"}:${places "sbin"}"; } // unit.environment;
    in
    render unit (
      "[Service]\n"
      + concatStringsSep "" (
        map (name: "Environment=${builtins.toJSON "${name}=${environment.${name}}"}\n") (
          attrNames environment
        )
      )
      + lines unit.serviceConfig
    );

  rendered =
    units: make:
    listToAttrs (
      map (key: {
        inherit (units.${key}) name;
        value = make units.${key};
      }) (attrNames units)
    );
in
{
  options = {
    assertions = option (types.listOf types.raw) [ ];
    warnings = option (types.listOf types.str) [ ];
    environment.systemPackages = option (types.listOf types.package) [ ];
    environment.etc = option (types.attrsOf (
      types.submodule {
        options = {
          text = option (types.nullOr types.str) null;
          source = option types.raw null;
        };
      }
    )) { };
    systemd = {
      services = units "service" {
        serviceConfig = section;
        environment = section;
        path = option (types.listOf types.raw) [ ];
      };
      targets = units "target" { };
      timers = units "timer" { timerConfig = section; };
      sockets = units "socket" { socketConfig = section; };
      paths = units "path" { pathConfig = section; };
    };
    test.units = option (types.attrsOf types.str) { };
  };

  config.test.units =
    rendered config.systemd.services service
    // rendered config.systemd.targets (unit: render unit null)
    // rendered config.systemd.timers (unit: render unit "[Timer]\n${lines unit.timerConfig}\n")
    // rendered config.systemd.sockets (unit: render unit "[Socket]\n${lines unit.socketConfig}\n\n\n")
    // rendered config.systemd.paths (unit: render unit "[Path]\n${lines unit.pathConfig}\n");
}
