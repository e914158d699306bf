# Functions on texts that nixpkgs' lib has, too. Builtins only.
{
  # Upper-case ASCII letters become lower-case.
  lower =
    let
      letters = text: builtins.genList (place: builtins.substring place 1 text) 26;
    in
    builtins.replaceStrings (letters "ABCDEFGHIJKLMNOPQRSTUVWXYZ") (
      letters "abcdefghijklmnopqrstuvwxyz"
    );

  # Numbers as Python's `:g` formats them: 60 for 60 and for 60.0, 0.5 for 0.5.
  format_number =
    number:
    let
      written = builtins.toJSON number;
      whole = builtins.match "(-?[0-9]+)[.]0" written;
    in
    if whole == null then written else builtins.head whole;
}
