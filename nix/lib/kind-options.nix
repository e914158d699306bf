# Makes the options of a submodule whose keys depend on its `kind`: of a probe or of a source.
# kinds.json has the kinds and keys; docs/generate.py writes it from the Python classes.
{
  lib,
  schema, # the part of kinds.json for it
}:
let
  inherit (lib) mkOption types;
  inherit (import ./text.nix) camel_case;

  types_of = {
    inherit (types)
      bool
      int
      number
      path
      port
      str
      ;
    kind = types.enum (builtins.attrNames schema.kinds);
    strings = types.attrsOf types.str;
  };

  # A key that is null is left out of the config: its default is Python's.
  option =
    {
      type,
      required,
      description,
    }:
    mkOption (
      if required then
        {
          inherit description;
          type = types_of.${type};
        }
      else
        {
          inherit description;
          type = types.nullOr types_of.${type};
          default = null;
        }
    );
in
builtins.listToAttrs (
  map (key: {
    name = camel_case key;
    value = option schema.options.${key};
  }) (builtins.attrNames schema.options)
)
