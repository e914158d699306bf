# Numbers as Python's `:g` writes them: 60 for 60 and for 60.0, 0.5 for 0.5. Builtins only.
number:
let
  written = builtins.toJSON number;
  whole = builtins.match "(-?[0-9]+)[.]0" written;
in
if whole == null then written else builtins.head whole
