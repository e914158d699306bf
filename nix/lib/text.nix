# Functions on strings, for files that must not need nixpkgs' lib. Builtins only.
let
  letters = text: builtins.genList (place: builtins.substring place 1 text) 26;
  upper_case = letters "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  lower_case = letters "abcdefghijklmnopqrstuvwxyz";
in
{
  lower = builtins.replaceStrings upper_case lower_case;

  # "verifyTls" -> "verify_tls": from an option's name to the config's.
  snake_case = builtins.replaceStrings upper_case (map (letter: "_${letter}") lower_case);

  # "verify_tls" -> "verifyTls": from a config's key to the option's name.
  camel_case = builtins.replaceStrings (map (letter: "_${letter}") lower_case) upper_case;

  # Numbers as Python's `:g` formats them: 60 for 60 and for 60.0, 0.5 for 0.5.
  format_number =
    number:
    let
      written = builtins.toJSON number;
      whole = builtins.match "(-?[0-9]+)[.]0" written;
    in
    if whole == null then written else builtins.head whole;
}
