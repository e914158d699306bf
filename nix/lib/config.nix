# Converts the options of an app, or of an assertion, to the content of its JSON file;
# docs/reference/configuration.md explains the keys. Builtins only.
let
  inherit (import ./text.nix) snake_case;
  inherit (builtins)
    attrNames
    filter
    listToAttrs
    map
    match
    ;

  # Keys as the config spells them. An option that is null is left out: its default is Python's.
  table =
    options:
    listToAttrs (
      map (name: {
        name = snake_case name;
        value = options.${name};
      }) (filter (name: options.${name} != null) (attrNames options))
    );
in
rec {
  # The file with an app's variables: a credential, or written from the options; null: abra's own.
  env_file =
    { name, app }:
    if app.platform.envFileCredential != null then
      "/run/credentials/${app.unit}/${name}.env"
    else if app.platform.variables != { } then
      "/etc/warm-reconcile/env/${name}.env"
    else
      null;

  app =
    {
      name,
      app,
      stateDirectory,
    }:
    {
      state_dir = "/var/lib/${stateDirectory}";
      caller = app.unit;
      source = table app.source;
      platform =
        table (removeAttrs app.platform [ "variables" "envFileCredential" ])
        // table { envFile = env_file { inherit name app; }; }
        // { kind = "swarm"; };
      probes = map table app.probes;
      gate = table app.gate;
      fallback_depth = app.fallbackDepth;
      retention = table app.retention;
      budget = table app.budget // { timeout_start = app.timeoutStart; };
    };

  assertion = assertion: {
    caller = assertion.unit;
    probes = map table assertion.probes;
    gate = table assertion.gate;
  };

  # Lines of NAME='value', as an env file of abra has them. In single quotes nothing is expanded.
  env_text =
    variables:
    builtins.concatStringsSep "" (
      map (name: "${name}='${variables.${name}}'\n") (attrNames variables)
    );
  unwritable =
    variables:
    filter (
      name: match "[A-Za-z_][A-Za-z0-9_]*" name == null || match "[^'\n\\]*" variables.${name} == null
    ) (attrNames variables);
}
