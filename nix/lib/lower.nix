# A text with small letters for capital ones. Builtins only.
let
  letters = text: builtins.genList (place: builtins.substring place 1 text) 26;
in
builtins.replaceStrings (letters "ABCDEFGHIJKLMNOPQRSTUVWXYZ") (
  letters "abcdefghijklmnopqrstuvwxyz"
)
