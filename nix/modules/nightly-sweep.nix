# nightly-sweep.timer and .service: check that last-good of every app is live and healthy.
{
  imports = [ ./warm-reconcile.nix ];

  config.services.warm-reconcile.sweep.enable = true;
}
