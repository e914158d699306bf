# nightly-sweep.timer and .service: is last-good of every app still what is live, and healthy?
{
  imports = [ ./warm-reconcile.nix ];

  config.services.warm-reconcile.sweep.enable = true;
}
