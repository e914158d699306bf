# Computes the longest possible run of an app, from its config as config.nix makes it: the same sum
# as runner/reconcile/budget.py, in the same words. Builtins only.
config:
let
  inherit (import ./text.nix) format_number;
  inherit (config) budget gate;
  tries = 1 + config.fallback_depth;
  worst =
    budget.fetch + gate.verify_deadline + (budget.deploy + gate.deadline) * tries + budget.margin;
in
{
  inherit worst;
  explained =
    "fetch ${format_number budget.fetch} + verify ${format_number gate.verify_deadline}"
    + " + (deploy ${format_number budget.deploy} + gate ${format_number gate.deadline})"
    + " x ${format_number tries}"
    + " + margin ${format_number budget.margin} = ${format_number worst} s";
}
