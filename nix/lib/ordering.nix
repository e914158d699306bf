# Proves that no probe waits for its own caller: finds the targets that start after the caller. The
# same proof as runner/reconcile/ordering.py, in the same words, for a configuration that is not
# built yet. Builtins only, so that it can be tested without nixpkgs.
#
#   import ./ordering.nix {
#     units = { "deploy-dashboard.service" = { after = [ "deploy-proxy.service" ]; }; ... };
#     aliases = { "dash.service" = "deploy-dashboard.service"; };
#     caller = "deploy-proxy.service";
#     targets = [ { unit = "dash.service"; } { unit = "deploy-proxy.service"; deployed = true; } ];
#   }
#
# gives a list of { target, chain, message }: empty if every target is safe. Units are named in
# full. With `deployed`, the probe asks a program that the unit deploys, not the unit itself.
#
# `units` must hold all ordering, including what systemd implies: implied-ordering.nix adds that.
# A template is made into each instance that a unit or a target names.
{
  units,
  aliases ? { },
  caller,
  targets,
}:
let
  inherit (builtins)
    any
    attrNames
    concatMap
    concatStringsSep
    elemAt
    filter
    genList
    genericClosure
    groupBy
    head
    length
    lessThan
    listToAttrs
    map
    mapAttrs
    match
    replaceStrings
    sort
    ;

  after = " → After= → ";
  before = " ← Before= ← ";

  reverse = list: genList (place: elemAt list (length list - 1 - place)) (length list);
  last = list: elemAt list (length list - 1);

  # Aliases ---------------------------------------------------------------------------------------

  # Of aliases in a circle, the first in the alphabet stands.
  resolve =
    name:
    let
      follow =
        start:
        map (step: step.key) (genericClosure {
          startSet = [ { key = start; } ];
          operator = { key }: if aliases ? ${key} then [ { key = aliases.${key}; } ] else [ ];
        });
      end = last (follow name);
    in
    if aliases ? ${end} then head (sort lessThan (follow end)) else end;

  # Templates -------------------------------------------------------------------------------------

  # "a@x.service" -> [ "a@" "x" ".service" ]; null if it is no instance.
  parts = match "([^@]*@)(.+)([.][a-z]+)";

  # A template as the unit that this name makes of it; empty if the name has no template.
  from_template =
    name:
    let
      it = parts name;
      template = elemAt it 0 + elemAt it 2;
    in
    if it == null || !(units ? ${template}) then
      { }
    else
      mapAttrs (_: map (replaceStrings [ "%i" "%I" ] [ (elemAt it 1) (elemAt it 1) ])) (
        lists units.${template}
      );

  lists = unit: {
    after = unit.after or [ ];
    before = unit.before or [ ];
  };

  exists = name: units ? ${name} || from_template name != { };

  # The ordering in the unit's own file, added to that of its template.
  unit_of =
    name:
    let
      own = lists (units.${name} or { });
      template = lists (from_template name);
    in
    {
      after = own.after ++ template.after;
      before = own.before ++ template.before;
    };

  is_template = name: match "[^@]*@[.][a-z]+" name != null;

  # Every unit that is named anywhere, instances of templates included.
  named = map (unit: unit.key) (genericClosure {
    startSet = map (key: { inherit key; }) (
      filter (name: !is_template name) (
        attrNames units
        ++ concatMap (name: [ name aliases.${name} ]) (attrNames aliases)
        ++ map (target: target.unit) targets
        ++ [ caller ]
      )
    );
    operator =
      { key }:
      let
        unit = unit_of key;
      in
      map (name: { key = name; }) (unit.after ++ unit.before);
  });

  known = listToAttrs (
    map (name: {
      name = resolve name;
      value = true;
    }) (filter exists named)
  );

  # The graph -------------------------------------------------------------------------------------

  edges = concatMap (
    name:
    let
      unit = unit_of name;
    in
    map (earlier: {
      later = resolve name;
      earlier = resolve earlier;
      arrow = after;
    }) unit.after
    ++ map (later: {
      later = resolve later;
      earlier = resolve name;
      arrow = before;
    }) unit.before
  ) named;

  # later -> earlier -> how it is drawn. What the later unit says goes first.
  ahead = mapAttrs (
    _: mine: mapAttrs (_: same: if any (edge: edge.arrow == after) same then after else before) (
      groupBy (edge: edge.earlier) mine
    )
  ) (groupBy (edge: edge.later) edges);

  # The steps of a shortest way, or null. genericClosure goes breadth first, keeps what it met first
  # and attrNames is sorted: so it is the way that Python finds, too.
  way =
    start: goal:
    let
      reached = genericClosure {
        startSet = [ { key = start; } ];
        operator =
          step:
          if step.key == goal then
            [ ]
          else
            map (key: {
              inherit key;
              from = step;
            }) (attrNames (ahead.${step.key} or { }));
      };
      found = filter (step: step.key == goal) reached;
      # Not by recursion: a way may be longer than what the evaluator can nest.
      back = genericClosure {
        startSet = found;
        operator = step: if step ? from then [ step.from ] else [ ];
      };
    in
    if found == [ ] then null else reverse back;

  draw_step = step: if step ? from then ahead.${step.from.key}.${step.key} + step.key else step.key;

  # The verdict -----------------------------------------------------------------------------------

  judge =
    {
      unit,
      deployed ? false,
    }:
    let
      start = resolve unit;
      goal = resolve caller;
      steps = way start goal;
      chain = map (step: step.key) steps;
      drawn =
        (if unit == start then "" else "${unit} = ")
        + concatStringsSep "" (map draw_step steps)
        + (if caller == goal then "" else " = ${caller}");
      unknown = filter (it: !(known ? ${resolve it.name})) [
        {
          name = unit;
          role = "target";
        }
        {
          name = caller;
          role = "caller";
        }
      ];
      refuse = chain: message: [
        {
          target = unit;
          inherit chain message;
        }
      ];
    in
    if start == goal then
      if deployed then
        [ ]
      else
        refuse chain "${drawn} is the caller itself: it is still starting while its gate runs"
    else if steps != null then
      refuse chain "${unit} starts after ${caller}, which is still starting while its gate runs: ${drawn}"
    else if unknown != [ ] then
      refuse [ ] (
        "the ${(head unknown).role} ${(head unknown).name} is unknown or can't be started, "
        + "so it can't be determined whether ${unit} starts after ${caller}"
      )
    else
      [ ];
in
concatMap judge targets
