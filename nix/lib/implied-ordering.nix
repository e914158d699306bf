# Adds the ordering that systemd implies (default dependencies, targets, triggers) to the ordering
# that units declare: the input of ordering.nix. Builtins only.
#
#   import ./implied-ordering.nix {
#     "dashboard.timer" = { after = [ "deploy-proxy.service" ]; triggers = [ "dashboard.service" ]; };
#     "dashboard.service" = { wantedBy = [ "multi-user.target" ]; };
#     ...
#   }
#
# Units are named in full. Each may have after, before; wants, requires, requisite, bindsTo, partOf,
# upholds; wantedBy, requiredBy, upheldBy; triggers (of a timer, a socket or a path: by default the
# service of its name); defaultDependencies (by default true).
#
# Ordering that leads only to units of early boot is left out: slices, mounts, D-Bus, the journal.
# For a caller that is ordered before those, use `warm-reconcile check --units`.
units:
let
  inherit (builtins)
    attrNames
    concatMap
    elem
    elemAt
    filter
    groupBy
    listToAttrs
    map
    mapAttrs
    match
    ;

  # Targets of systemd itself that order units of a configuration.
  upstream = {
    "timers.target".defaultDependencies = false;
    "local-fs.target".defaultDependencies = false;
    "remote-fs.target".defaultDependencies = false;
    "sysinit.target".after = [ "local-fs.target" ];
    "basic.target".after = [
      "sysinit.target"
      "sockets.target"
      "paths.target"
    ];
    "multi-user.target".after = [ "basic.target" ];
    "graphical.target".after = [ "multi-user.target" ];
    "network-online.target".after = [ "network.target" ];
    "network.target".after = [ "network-pre.target" ];
    "time-sync.target".after = [ "time-set.target" ];
  };

  type_of = name: elemAt (match ".*[.]([a-z]+)" name) 0;
  with_service = name: "${elemAt (match "(.*)[.][a-z]+" name) 0}.service";
  # The template of an instance, which counts for the instance, too.
  template_of =
    name:
    let
      parts = match "([^@]*@).+([.][a-z]+)" name;
    in
    if parts == null then name else elemAt parts 0 + elemAt parts 1;
  has_defaults =
    name:
    units.${name}.defaultDependencies or units.${template_of name}.defaultDependencies
      or upstream.${name}.defaultDependencies or true;

  pulls = [
    "wants"
    "requires"
    "requisite"
    "bindsTo"
    "partOf"
    "upholds"
  ];
  pulled_by = [
    "wantedBy"
    "requiredBy"
    "upheldBy"
  ];

  # The units that a unit pulls in, declared by either of the two.
  from_installed = mapAttrs (_: map (pair: pair.unit)) (
    groupBy (pair: pair.by) (
      concatMap (
        unit: concatMap (key: map (by: { inherit unit by; }) (units.${unit}.${key} or [ ])) pulled_by
      ) (attrNames units)
    )
  );
  pulled =
    name: concatMap (key: units.${name}.${key} or [ ]) pulls ++ from_installed.${name} or [ ];

  # A target starts after the units that it pulls in, except those that start after the target.
  of_target =
    name:
    filter (
      other:
      let
        first =
          units.${other}.after or [ ]
          ++ units.${template_of other}.after or [ ]
          ++ upstream.${other}.after or [ ]
          ++ (if type_of other == "target" then [ ] else (defaults other).after or [ ]);
      in
      has_defaults other && !(elem name first) && !(elem other (units.${name}.before or [ ]))
    ) (pulled name);

  # The default dependencies of each type of unit.
  defaults =
    name:
    {
      service.after = [
        "sysinit.target"
        "basic.target"
      ];
      socket = {
        after = [ "sysinit.target" ];
        before = [ "sockets.target" ];
      };
      path = {
        after = [ "sysinit.target" ];
        before = [ "paths.target" ];
      };
      timer = {
        after = [
          "sysinit.target"
          "time-set.target"
          "time-sync.target"
        ];
        before = [ "timers.target" ];
      };
      target.after = of_target name;
    }
    .${type_of name} or { };

  # A timer, socket or path starts before the unit that it triggers, also without the defaults.
  triggers =
    name:
    if elem (type_of name) [ "timer" "socket" "path" ] then
      units.${name}.triggers or [ (with_service name) ]
    else
      [ ];

  names = attrNames (units // upstream // from_installed);
in
listToAttrs (
  map (name: {
    inherit name;
    value =
      let
        own = units.${name} or { };
        known = upstream.${name} or { };
        implied = if has_defaults name then defaults name else { };
      in
      {
        after = own.after or [ ] ++ known.after or [ ] ++ implied.after or [ ];
        before = own.before or [ ] ++ implied.before or [ ] ++ triggers name;
      };
  }) names
)
