# How long can a run take at worst? The same sum as runner/reconcile/budget.py, in the same words,
# over an app's config as config.nix makes it. Builtins only.
config:
let
  write = import ./numbers.nix;
  inherit (config) budget gate;
  tries = 1 + config.fallback_depth;
  worst =
    budget.fetch + gate.verify_deadline + (budget.deploy + gate.deadline) * tries + budget.margin;
in
{
  inherit worst;
  explained =
    "fetch ${write budget.fetch} + verify ${write gate.verify_deadline}"
    + " + (deploy ${write budget.deploy} + gate ${write gate.deadline}) x ${write tries}"
    + " + margin ${write budget.margin} = ${write worst} s";
}
