# From the options of an app, or of an assertion, to what stands in its JSON file:
# docs/configuration.md explains the keys. Builtins only.
let
  inherit (import ./text.nix) lower;
  inherit (builtins)
    attrNames
    elem
    filter
    listToAttrs
    map
    match
    split
    ;

  # "verifyTls" -> "verify_tls"
  snake =
    name:
    builtins.concatStringsSep "" (
      map (part: if builtins.isList part then "_${lower (builtins.head part)}" else part) (
        split "([A-Z])" name
      )
    );

  # Keys in the config's spelling; an option that is null is left to the program's own default.
  table =
    options:
    listToAttrs (
      map (name: {
        name = snake name;
        value = options.${name};
      }) (filter (name: options.${name} != null) (attrNames options))
    );
in
rec {
  # What each kind of a probe, and of a source, may say beside its kind.
  allowed = {
    probe = {
      "traefik-ping" = [ "name" "targetUnit" "url" "timeout" ];
      identity = [ "name" "targetUnit" "url" "address" "verifyTls" "timeout" ];
      http = [
        "name"
        "targetUnit"
        "url"
        "address"
        "status"
        "headers"
        "body"
        "bodyContains"
        "verifyTls"
        "caFile"
        "timeout"
      ];
      task = [
        "name"
        "targetUnit"
        "port"
        "path"
        "status"
        "headers"
        "bodyContains"
        "timeout"
      ];
      tcp = [ "name" "targetUnit" "address" "timeout" ];
      unit = [ "name" "targetUnit" "timeout" ];
    };
    source = {
      directory = [ "path" "prereleases" ];
      git = [ "url" "prereleases" ];
      abra = [ "domain" "server" "directory" "prereleases" ];
    };
  };

  # What is said although its kind has no use for it, in the options' spelling.
  misplaced =
    what: options:
    let
      meant = [ "kind" ] ++ allowed.${what}.${options.kind};
    in
    filter (name: options.${name} != null && !(elem name meant)) (attrNames options);

  # Of which file an app's variables come: of abra's own .env, of a credential, or of the options.
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
