# The host whose units are rendered here: the control plane as it comes, and the one app for which
# the host has to say something.
{
  imports = [ ../../nix/modules/control-plane.nix ];

  services.deploy-backupbot.port = 8080;
}
