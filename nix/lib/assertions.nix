# Checks a host's configuration before anything is built: a list of error messages, empty if there
# are none. The module makes NixOS assertions of them. Builtins only.
#
#   import ./assertions.nix {
#     systemd = config.systemd;                     # of the whole host
#     apps = { traefik = { options = ...; config = ...; }; ... };  # config: as config.nix makes it
#     assertions = { converge = { options = ...; config = ...; }; ... };
#     sweep = { unit = "nightly-sweep.service"; } or null;
#   }
{
  systemd,
  apps,
  assertions ? { },
  sweep ? null,
}:
let
  inherit (builtins)
    any
    attrNames
    concatMap
    concatStringsSep
    elem
    elemAt
    filter
    head
    length
    map
    match
    ;

  host = import ./configured-units.nix systemd;
  units = import ./implied-ordering.nix host.units;
  inherit (host) aliases;
  budget = import ./budget.nix;
  inherit (import ./text.nix) camel_case format_number lower;
  inherit (import ./config.nix) unwritable;
  kinds = builtins.mapAttrs (_: it: it.kinds) (builtins.fromJSON (builtins.readFile ./kinds.json));

  name_of = probe: if probe.name or null == null then probe.kind else probe.name;
  where = place: probe: "${place}, probe ${name_of probe}";

  # Ordering of probes -----------------------------------------------------------------------------

  ordered =
    {
      place,
      caller,
      probes,
      deploys,
    }:
    concatMap (
      probe:
      map (verdict: "${where place probe}: ${verdict.message}") (
        import ./ordering.nix {
          inherit units aliases caller;
          targets = [
            {
              unit = probe.target_unit;
              # A `unit` probe asks systemd about the unit itself, not what the unit deployed.
              deployed = deploys && probe.kind != "unit";
            }
          ];
        }
      )
    ) probes;

  # Host names of probes ---------------------------------------------------------------------------

  # Follows aliases to the name of the unit.
  resolve =
    name:
    let
      follow = map (step: step.key) (
        builtins.genericClosure {
          startSet = [ { key = name; } ];
          operator = { key }: if aliases ? ${key} then [ { key = aliases.${key}; } ] else [ ];
        }
      );
    in
    elemAt follow (length follow - 1);

  # The host name of a URL; null if it is an address.
  host_name =
    url:
    let
      parts = match "https?://([^/?#@]*@)?([^]:/?#[]*[^].:/?#[])[.]?(:[0-9]*)?([/?#].*)?" (lower url);
      name = elemAt parts 1;
    in
    if parts == null || match "[0-9.]+" name != null then null else name;

  is_routed = probe: probe.kind == "http" && host_name (probe.url or "") != null;
  is_about_traefik = config: any (probe: elem probe.kind [ "identity" "traefik-ping" ]) config.probes;

  # Traefik forwards a request with a host name to the app that it routes the name to. In a gate on
  # Traefik itself, such a probe would depend on that app.
  routed =
    place: config:
    if !is_about_traefik config then
      [ ]
    else
      map (
        probe:
        "${where place probe}: Traefik routes ${probe.url} to the app that serves"
        + " ${host_name probe.url}, but ${probe.target_unit} deploys Traefik itself."
        + " Probe it in services.warm-reconcile.assertions, in a unit that starts after that app's unit"
      ) (
        filter (probe: is_routed probe && resolve probe.target_unit == resolve config.caller) config.probes
      );

  gates =
    map (name: {
      place = "apps.${name}";
      inherit (apps.${name}) config;
    }) (attrNames apps)
    ++ map (name: {
      place = "assertions.${name}";
      inherit (assertions.${name}) config;
    }) (attrNames assertions);

  declared = concatMap (
    { place, config }:
    map (probe: {
      by = where place probe;
      host = host_name probe.url;
      unit = probe.target_unit;
    }) (filter is_routed config.probes)
  ) gates;

  # Refuses probes that declare different units for the same host name.
  contradicted = concatMap (
    same:
    let
      first = head same;
      others = filter (it: resolve it.unit != resolve first.unit) same;
    in
    map (
      other:
      "${first.host} is served by ${first.unit}, says ${first.by};"
      + " by ${other.unit}, says ${other.by}: one of them is wrong"
    ) others
  ) (builtins.attrValues (builtins.groupBy (it: it.host) declared));

  # Start timeouts ---------------------------------------------------------------------------------

  # Read from the whole configuration: other modules may have added to the unit.
  service_of =
    unit: (systemd.services or { }).${head (match "(.*)[.]service" unit)}.serviceConfig or { };

  too_long =
    {
      place,
      unit,
      timeout,
      worst,
      explained,
    }:
    let
      limit = (service_of unit).TimeoutStartSec or timeout;
    in
    if !(builtins.isInt limit || builtins.isFloat limit) || limit != timeout then
      [
        (
          "${place}: ${unit} has TimeoutStartSec=${toString limit},"
          + " not timeoutStart = ${format_number timeout}: set it there"
        )
      ]
    else if worst >= limit then
      [
        (
          "${place}: ${unit} may take ${format_number limit} s to start (TimeoutStartSec=),"
          + " the longest run takes ${explained}"
        )
      ]
    else
      [ ];

  # Refuses further commands in the unit: TimeoutStartSec= counts for each command, and a command
  # could wait for a unit that starts later.
  others_commands =
    place: unit:
    let
      service = service_of unit;
      found =
        filter (name: service ? ${name}) [
          "ExecCondition"
          "ExecStartPre"
          "ExecStartPost"
        ]
        ++ (if builtins.isList (service.ExecStart or "") then [ "ExecStart" ] else [ ]);
    in
    map (
      name:
      "${place}: ${unit} has further commands (${name}=), which could wait for units that start later."
      + " Move them to another unit"
    ) found;

  # Seconds beside the gate: MARGIN in runner/config/assertion.py.
  margin = 30;

  # One app, one assertion ---------------------------------------------------------------------------

  of_app =
    name:
    let
      place = "apps.${name}";
      inherit (apps.${name}) options config;
      spent = budget config;
    in
    ordered {
      inherit place;
      inherit (config) caller probes;
      deploys = true;
    }
    ++ routed place config
    ++ others_commands place config.caller
    ++ too_long {
      inherit place;
      inherit (spent) worst explained;
      unit = config.caller;
      timeout = options.timeoutStart;
    }
    ++ (
      if any (probe: elem probe.kind [ "identity" "task" ]) config.probes then
        [ ]
      else
        [ "${place}: no probe of kind identity or task: an old instance could answer for a new one" ]
    )
    ++ concatMap (probe: wrong_keys (where place probe) kinds.probes probe) config.probes
    ++ wrong_keys "${place}, source" kinds.sources config.source
    ++ (
      if options.platform.envFileCredential != null && options.platform.variables != { } then
        [ "${place}: platform.envFileCredential and platform.variables: one of them is the env file" ]
      else
        [ ]
    )
    ++ map (
      variable:
      "${place}: platform.variables.${variable} can't be written:"
      + " no quote, line break or backslash"
    ) (unwritable options.platform.variables);

  # All kinds share one set of options: refuses a key that the kind does not have, and the lack of a
  # key that the kind requires.
  wrong_keys =
    place: kinds: config:
    let
      kind = kinds.${config.kind};
      refuse = problem: map (key: "${place}: of kind ${config.kind}, it ${problem} ${camel_case key}");
    in
    refuse "has no" (filter (key: !(elem key ([ "kind" ] ++ kind.keys))) (attrNames config))
    ++ refuse "needs" (filter (key: !(config ? ${key})) kind.required);

  of_assertion =
    name:
    let
      place = "assertions.${name}";
      inherit (assertions.${name}) options config;
      worst = config.gate.deadline + margin;
    in
    ordered {
      inherit place;
      inherit (config) caller probes;
      deploys = false;
    }
    ++ others_commands place config.caller
    ++ too_long {
      inherit place worst;
      unit = config.caller;
      timeout = options.timeoutStart;
      explained =
        "gate ${format_number config.gate.deadline} + margin ${format_number margin}"
        + " = ${format_number worst} s";
    }
    ++ concatMap (probe: wrong_keys (where place probe) kinds.assertion_probes probe) config.probes;

  # The sweep runs the probes of every app, in its own unit.
  of_sweep =
    if sweep == null then
      [ ]
    else
      concatMap (
        name:
        ordered {
          place = "sweep of apps.${name}";
          caller = sweep.unit;
          inherit (apps.${name}.config) probes;
          deploys = false;
        }
      ) (attrNames apps);
in
concatMap of_app (attrNames apps)
++ concatMap of_assertion (attrNames assertions)
++ contradicted
++ of_sweep
