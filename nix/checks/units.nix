# A whole host with the control plane: NixOS' assertions hold, and the program itself takes its
# configs and proves its gates on the units that NixOS built, those of packages included.
#
# In a virtual machine, because systemd-analyze must have or make /run/systemd: a build may not make
# directories in the root of its sandbox, nor mount anything there.
{
  pkgs,
  nixpkgs,
  modules,
}:
let
  host = nixpkgs.lib.nixosSystem {
    inherit (pkgs.stdenv.hostPlatform) system;
    modules = [
      modules.control-plane
      {
        virtualisation.docker.enable = true;
        boot.isContainer = true; # neither a kernel nor a boot loader: only /etc is looked at
        system.stateVersion = "25.05";
      }
    ];
  };
  inherit (host.config.system.build) etc;
  program = host.config.services.warm-reconcile.package;
in
pkgs.vmTools.runInLinuxVM (
  pkgs.runCommand "warm-reconcile-units" { nativeBuildInputs = [ pkgs.systemd ]; } ''
    mkdir -p /run/systemd
    ${program}/bin/warm-reconcile check \
      --units ${etc}/etc/systemd/system --config-dir ${etc}/etc/warm-reconcile | tee $out
  ''
)
