{
  description = "Deploy the latest release, gate it on its own health, commit it or roll back";

  # Without a lock: making one takes a network. `nix flake lock` on the host that builds it.
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs =
    { self, nixpkgs }:
    let
      each =
        make:
        nixpkgs.lib.genAttrs [
          "x86_64-linux"
          "aarch64-linux"
        ] (system: make nixpkgs.legacyPackages.${system});

      # "proxy.nix" -> proxy
      modules = builtins.listToAttrs (
        map (file: {
          name = builtins.head (builtins.match "(.*)[.]nix" file);
          value = ./nix/modules + "/${file}";
        }) (builtins.attrNames (builtins.readDir ./nix/modules))
      );
    in
    {
      packages = each (pkgs: {
        default = pkgs.callPackage ./nix/package.nix { };
      });

      nixosModules = modules // {
        default = modules.control-plane;
      };

      checks = each (pkgs: {
        package = self.packages.${pkgs.stdenv.hostPlatform.system}.default;
        cold-boot = pkgs.testers.runNixOSTest (import ./nix/checks/cold-boot.nix { inherit modules; });
        units = import ./nix/checks/units.nix { inherit pkgs nixpkgs modules; };
      });

      # `make` sets up everything else, in the checkout alone.
      devShells = each (pkgs: {
        default = pkgs.mkShell {
          packages = [
            (pkgs.python3.withPackages (python: [ python.pip ]))
            pkgs.git
            pkgs.gnumake
            pkgs.nixfmt-rfc-style
          ];
        };
      });

      formatter = each (pkgs: pkgs.nixfmt-rfc-style);
    };
}
