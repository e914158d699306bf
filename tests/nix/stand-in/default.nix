# Evaluates the modules of a host into its units as text, its files in /etc, its start jobs, its
# warnings, and the messages of failed assertions.
#
#   import ./. { modules = [ … ]; nixpkgs = { lib = "/…/nixpkgs.lib"; tree = "/…/nixpkgs"; }; }
#
# Without `nixpkgs`, lib.nix stands in for its lib; without `tree`, nixos.nix for the modules of
# NixOS.
{
  modules,
  nixpkgs ? null,
}:
let
  inherit (builtins)
    attrNames
    attrValues
    concatMap
    filter
    groupBy
    listToAttrs
    map
    mapAttrs
    ;

  lib = if nixpkgs == null then import ./lib.nix else import "${nixpkgs.lib}/lib";
  nixos =
    if nixpkgs.tree or null == null then
      ./nixos.nix
    else
      import ./real-nixos.nix { inherit (nixpkgs) tree; };

  # A package that is nowhere built: in the golden units all are where Debian has them.
  at = outPath: {
    type = "derivation";
    name = baseNameOf outPath;
    inherit outPath;
  };
  pkgs = {
    coreutils = at "/usr";
    findutils = at "/usr";
    gnugrep = at "/usr";
    gnused = at "/usr";
    systemd = at "/usr";
    docker-client = at "/usr";
    gitMinimal = at "/usr";
    callPackage = _: _: at "/opt/warm-reconcile";
    # No store is there: a name that changes with the content, as in a store.
    writeText =
      name: text:
      at "/nix/store/${builtins.substring 0 32 (builtins.hashString "sha256" text)}-${name}";
    formats.json = _: {
      generate =
        name: value: at "/nix/store/00000000000000000000000000000000-${name}" // { json = value; };
    };
  };

  inherit
    (lib.evalModules {
      modules = [
        nixos
      ]
      ++ (if nixpkgs == null then [ ] else [ { _module.args = { inherit pkgs; }; } ])
      ++ modules;
      ${if nixpkgs == null then "args" else null} = {
        inherit pkgs;
      };
    })
    config
    ;

  installed =
    key:
    mapAttrs (_: map (pair: pair.unit)) (
      groupBy (pair: pair.by) (
        concatMap (unit: map (by: { inherit by; unit = unit.name; }) unit.${key}) (
          concatMap (type: attrValues config.systemd.${type}) [
            "services"
            "targets"
            "timers"
            "sockets"
            "paths"
          ]
        )
      )
    );
in
{
  inherit (config.test) units;
  etc = mapAttrs (
    _: file: if file.text != null then file.text else file.source.json
  ) config.environment.etc;
  wants = installed "wantedBy";
  requires = installed "requiredBy";
  aliases = (import ../../../nix/lib/configured-units.nix config.systemd).aliases;
  inherit (config) warnings;
  refused = map (it: it.message) (filter (it: !it.assertion) config.assertions);
}
