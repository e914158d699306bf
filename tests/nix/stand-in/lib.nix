# Implements the part of nixpkgs' lib that nix/modules/ use, for machines without nixpkgs: options,
# types and the merging of definitions. Builtins only. test_golden.py compares it with the real lib
# where NIXPKGS_LIB names one.
let
  inherit (builtins)
    all
    attrNames
    concatLists
    concatMap
    elem
    elemAt
    filter
    foldl'
    genericClosure
    head
    isAttrs
    isBool
    isFloat
    isFunction
    isInt
    isList
    isString
    length
    listToAttrs
    map
    mapAttrs
    substring
    tail
    toJSON
    ;

  names_of = sets: attrNames (foldl' (found: set: found // set) { } sets);
  values_of = name: sets: concatMap (set: if set ? ${name} then [ set.${name} ] else [ ]) sets;
  option_name = builtins.concatStringsSep ".";

  # Definitions -----------------------------------------------------------------------------------

  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
  mkOverride = priority: content: {
    _type = "override";
    inherit priority content;
  };
  mkMerge = contents: {
    _type = "merge";
    inherit contents;
  };
  kind_of = value: if isAttrs value then value._type or "" else "";

  # Moves conditions and priorities into the attributes: the attributes' names can then be listed
  # without evaluating a condition.
  push =
    value:
    {
      "if" = concatMap (set: [ (mapAttrs (_: mkIf value.condition) set) ]) (push value.content);
      override = map (mapAttrs (_: mkOverride value.priority)) (push value.content);
      merge = concatMap push value.contents;
    }
    .${kind_of value} or [ value ];

  # Conditions decided; each with its priority.
  decide =
    value:
    {
      "if" = if value.condition then decide value.content else [ ];
      override = map (it: it // { inherit (value) priority; }) (decide value.content);
      merge = concatMap decide value.contents;
    }
    .${kind_of value} or [
      {
        priority = 100;
        inherit value;
      }
    ];

  # The smallest number among the priorities of definitions: it wins.
  best_priority = foldl' (best: it: if it.priority < best then it.priority else best) 10000;

  # The values with the priority that wins.
  strongest =
    values:
    let
      decided = concatMap decide values;
      best = best_priority decided;
    in
    map (it: it.value) (filter (it: it.priority == best) decided);

  # Types -----------------------------------------------------------------------------------------

  checked =
    type: path: values:
    let
      wrong = filter (value: !type.check value) values;
    in
    if wrong == [ ] then
      values
    else
      throw "A definition for option `${option_name path}' is not of type `${type.name}'.";

  make =
    {
      name,
      check,
      merge ? null,
    }:
    let
      type = {
        _type = "option-type";
        inherit name check;
        merge =
          path: values:
          (if merge == null then same else merge) path (checked type path values);
      };
    in
    type;

  same =
    path: values:
    if all (value: value == head values) (tail values) then
      head values
    else
      throw "The option `${option_name path}' has conflicting definition values.";

  merge_attrs =
    element: path: sets:
    let
      existing = filter (name: concatMap decide (values_of name sets) != [ ]) (names_of sets);
    in
    listToAttrs (
      map (name: {
        inherit name;
        value = evaluate_value element (path ++ [ name ]) (values_of name sets);
      }) existing
    );

  # A set is merged whole by its type, which decides about the conditions in it.
  evaluate_value =
    type: path: values:
    type.merge path (if type.is_deep or false then concatMap push values else strongest values);

  types = rec {
    raw = make {
      name = "anything";
      check = _: true;
    };
    str = make {
      name = "string";
      check = isString;
    };
    bool = make {
      name = "boolean";
      check = isBool;
    };
    int = make {
      name = "integer";
      check = isInt;
    };
    number = make {
      name = "number";
      check = value: isInt value || isFloat value;
    };
    port = make {
      name = "port number";
      check = value: isInt value && value >= 0 && value <= 65535;
    };
    path = make {
      name = "absolute path";
      check =
        value:
        (isString value || builtins.isPath value || value ? outPath)
        && substring 0 1 (toString value) == "/";
    };
    package = make {
      name = "package";
      check = value: value.type or "" == "derivation";
    };
    enum =
      choices:
      make {
        name = "one of ${builtins.concatStringsSep ", " (map toJSON choices)}";
        check = value: elem value choices;
      };
    nullOr =
      type:
      make {
        name = "null or ${type.name}";
        check = value: value == null || type.check value;
        merge =
          path: values: if all (value: value == null) values then null else type.merge path values;
      };
    listOf =
      type:
      make {
        name = "list of ${type.name}";
        check = isList;
        merge =
          path: lists: map (value: evaluate_value type path [ value ]) (concatLists lists);
      }
      // {
        inner = type;
        step = ".*";
      };
    attrsOf =
      type:
      make {
        name = "attribute set of ${type.name}";
        check = isAttrs;
        merge = merge_attrs type;
      }
      // {
        is_deep = true;
        inner = type;
        step = ".NAME";
      };
    submodule = module: {
      _type = "option-type";
      name = "submodule";
      check = isAttrs;
      is_deep = true;
      inherit module;
      merge =
        path: sets:
        (evalModules {
          modules = [ module ] ++ map (config: { inherit config; }) sets;
          args.name = elemAt path (length path - 1);
          inherit path;
        }).config;
    };
  };

  # Modules ---------------------------------------------------------------------------------------

  # A module that is only definitions may leave out the word for them.
  whole =
    module:
    if module ? config || module ? options then
      module
    else
      {
        imports = module.imports or [ ];
        config = removeAttrs module [ "imports" ];
      };

  evalModules =
    {
      modules,
      args ? { },
      path ? [ ],
    }:
    let
      given = args // {
        inherit lib config;
        options = describe options definitions;
      };
      open =
        module:
        let
          content = if builtins.isPath module then import module else module;
        in
        whole (if isFunction content then content given else content);
      # Of a module that several import, once.
      key_of =
        parent: number: module:
        if builtins.isPath module then toString module else "${parent}/${toString number}";
      entries =
        parent: list:
        builtins.genList (number: {
          key = key_of parent number (elemAt list number);
          module = open (elemAt list number);
        }) (length list);
      opened = map (entry: entry.module) (genericClosure {
        startSet = entries "" modules;
        operator = entry: entries entry.key (entry.module.imports or [ ]);
      });
      options = map (module: module.options or { }) opened;
      definitions = concatMap (module: push (module.config or { })) opened;
      config = level path options definitions;
    in
    {
      inherit config options;
    };

  level =
    path: options: definitions:
    let
      declared = names_of options;
      unknown = filter (name: !(elem name declared)) (names_of definitions);
    in
    if unknown != [ ] then
      throw "The option `${option_name (path ++ [ (head unknown) ])}' does not exist."
    else
      listToAttrs (
        map (name: {
          inherit name;
          value =
            let
              declarations = values_of name options;
              here = path ++ [ name ];
              values = values_of name definitions;
              declaration = head declarations;
            in
            if kind_of declaration != "option" then
              level here declarations (concatMap push values)
            else if length declarations > 1 then
              throw "The option `${option_name here}' is declared more than once."
            else
              evaluate_option declaration here values;
        }) declared
      );

  with_default =
    option: values:
    values ++ (if option ? default then [ (mkOverride 1500 option.default) ] else [ ]);

  evaluate_option =
    option: path: values:
    let
      everything = with_default option values;
    in
    if concatMap decide everything == [ ] then
      throw "The option `${option_name path}' was accessed but has no value defined."
    else
      (option.apply or (value: value)) (
        evaluate_value option.type path (
          if option.type.is_deep or false && concatMap decide values != [ ] then values else everything
        )
      );

  # The module argument `options`: each declaration together with its definitions.
  describe =
    options: definitions:
    listToAttrs (
      map (
        name:
        let
          declarations = values_of name options;
          values = values_of name definitions;
          declaration = head declarations;
          everything = with_default declaration values;
          decided = concatMap decide everything;
        in
        {
          inherit name;
          value =
            if kind_of declaration != "option" then
              describe declarations (concatMap push values)
            else
              declaration
              // {
                isDefined = decided != [ ];
                highestPrio = best_priority decided;
                definitions = strongest everything;
              };
        }
      ) (names_of options)
    );

  # Renamed options -------------------------------------------------------------------------------

  set_at = path: value: foldl' (inner: name: { ${name} = inner; }) value (reverse path);
  get_at = foldl' (set: name: set.${name});
  reverse = list: builtins.genList (number: elemAt list (length list - 1 - number)) (length list);

  # As in nixpkgs, the old option has the new one's type and value, its definitions keep their
  # priority, and `warnings` is defined only where that option is declared. nixpkgs' warning also
  # names the files that define the old option.
  mkRenamedOptionModule =
    from: to:
    { config, options, ... }:
    let
      old = get_at options from;
      renamed = "has been renamed to `${option_name to}'.";
    in
    {
      options = set_at from (mkOption {
        visible = false;
        description = "Alias of {option}`${option_name to}`.";
        inherit (get_at options to) type;
        apply = _: builtins.trace "Obsolete option `${option_name from}' ${renamed}" (get_at config to);
      });
      config = mkMerge [
        (
          if options ? warnings then
            { warnings = if old.isDefined then [ "The option `${option_name from}' ${renamed}" ] else [ ]; }
          else
            { }
        )
        (mkIf old.isDefined (set_at to (mkMerge (map (mkOverride old.highestPrio) old.definitions))))
      ];
    };

  mkOption = option: option // { _type = "option"; };

  lib = {
    inherit
      evalModules
      mkIf
      mkMerge
      mkOption
      mkOverride
      mkRenamedOptionModule
      types
      ;
    mkDefault = mkOverride 1000;
    mkForce = mkOverride 50;
  };
in
lib
