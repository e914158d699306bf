# Lists the options of each module for docs/reference/module-options.md: path, type, default and description
# as declared. Builtins only.
let
  inherit (builtins)
    attrNames
    concatMap
    filter
    isFunction
    listToAttrs
    map
    readDir
    ;
  lib = import ./lib.nix;

  apply = module: args: if isFunction module then module args else module;

  # Through lists and sets to the submodule in a type; null if there is none.
  inner =
    type:
    if type ? module then
      type
    else if type ? inner then
      inner type.inner
    else
      null;
  walk =
    path: options:
    concatMap (
      name:
      let
        option = options.${name};
        here = if path == "" then name else "${path}.${name}";
        submodule = inner option.type;
        said = key: if option ? ${key} then { ${key} = option.${key}; } else { };
      in
      if option._type or "" != "option" then
        walk here option
      else
        [
          (
            {
              path = here;
              type = option.type.name;
              inherit (option) description;
            }
            // said "example"
            // said "defaultText"
            // (
              if option ? defaultText then
                { }
              else if submodule != null && option ? default then
                { defaultText = "as below"; }
              else
                said "default"
            )
          )
        ]
        ++ (
          if submodule == null then
            [ ]
          else
            walk (here + (option.type.step or "")) (apply submodule.module { name = "NAME"; }).options
        )
    ) (filter (name: !(options.${name}.internal or false)) (attrNames options));
in
listToAttrs (
  map (file: {
    name = file;
    value = walk "" (
      (apply (import (../../../nix/modules + "/${file}")) {
        inherit lib;
        config = { };
        pkgs.formats.json = _: { };
      }).options or { }
    );
  }) (attrNames (readDir ../../../nix/modules))
)
