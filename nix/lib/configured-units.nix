# Reads a host's `config.systemd` into the input of implied-ordering.nix and ordering.nix: every
# configured unit by its full name, and the aliases. Builtins only.
#
# Unit files that packages bring along (`systemd.packages`) are not read here:
# `warm-reconcile check --units` reads them on the built host.
systemd:
let
  inherit (builtins)
    attrNames
    concatMap
    elem
    filter
    foldl'
    isList
    isString
    listToAttrs
    map
    split
    ;

  types = [
    {
      option = "services";
      suffix = "service";
    }
    {
      option = "targets";
      suffix = "target";
    }
    {
      option = "timers";
      suffix = "timer";
      starts = unit: unit.timerConfig.Unit or null;
    }
    {
      option = "sockets";
      suffix = "socket";
      starts = unit: unit.socketConfig.Service or null;
    }
    {
      option = "paths";
      suffix = "path";
      starts = unit: unit.pathConfig.Unit or null;
    }
  ];

  # A directive is set by the option of its name, or in unitConfig.
  directives = {
    after = "After";
    before = "Before";
    wants = "Wants";
    requires = "Requires";
    requisite = "Requisite";
    bindsTo = "BindsTo";
    partOf = "PartOf";
    upholds = "Upholds";
  };
  installs = [
    "wantedBy"
    "requiredBy"
    "upheldBy"
  ];

  words =
    value:
    if isList value then
      concatMap words value
    else
      filter (word: isString word && word != "") (split "[[:space:]]+" value);

  # An empty assignment, which resets a list in systemd, is ignored here. The result may have an
  # edge too many, which is refused at worst; with an edge too few, a boot could deadlock.
  read =
    starts: unit:
    builtins.mapAttrs (
      option: directive: unit.${option} or [ ] ++ words (unit.unitConfig.${directive} or "")
    ) directives
    // listToAttrs (
      map (name: {
        inherit name;
        value = unit.${name} or [ ];
      }) installs
    )
    // {
      defaultDependencies =
        !(elem (unit.unitConfig.DefaultDependencies or true) [
          false
          "false"
          "no"
          "off"
          "n"
          "f"
          "0"
          0
        ]);
    }
    // (
      let
        started = starts unit;
      in
      if started == null then { } else { triggers = [ started ]; }
    );

  all = concatMap (
    {
      option,
      suffix,
      starts ? _: null,
    }:
    let
      units = systemd.${option} or { };
    in
    map (key: rec {
      unit = units.${key};
      name = unit.name or "${key}.${suffix}";
      value = read starts unit;
    }) (filter (key: units.${key}.enable or true) (attrNames units))
  ) types;
  aliases = foldl' (found: it: found // it) { } (
    map (
      { name, unit, ... }:
      listToAttrs (
        map (alias: {
          name = alias;
          value = name;
        }) (unit.aliases or [ ])
      )
    ) all
  );
  # Replaces aliases: the ordering that systemd implies depends on the unit that is named.
  resolved =
    unit: builtins.mapAttrs (_: it: if isList it then map (name: aliases.${name} or name) it else it) unit;
in
{
  inherit aliases;
  units = listToAttrs (
    map (
      { name, value, ... }:
      {
        inherit name;
        value = resolved value;
      }
    ) all
  );
}
