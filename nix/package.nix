# The program with an interpreter of its own: the host needs no python3 on its PATH.
{
  lib,
  python3Packages,
}:
let
  inherit ((builtins.fromTOML (builtins.readFile ../pyproject.toml))) project;
in
python3Packages.buildPythonApplication {
  pname = project.name;
  inherit (project) version;
  pyproject = true;

  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../pyproject.toml
      ../README.md
      ../LICENSE
      ../runner
      ../recipes
    ];
  };

  build-system = [ python3Packages.hatchling ];
  dependencies = [
    python3Packages.attrs
    python3Packages.cattrs
    python3Packages.httpx
    python3Packages.packaging
    python3Packages.psutil
    python3Packages.python-dotenv
    python3Packages.pyyaml
    python3Packages.transitions
    python3Packages.typing-extensions
  ];

  pythonImportsCheck = [
    "runner.warm_reconcile"
    "runner.cli.main"
  ];
  # The tests want engines, namespaces and a network: .ci/run has them, a sandbox hasn't.
  doCheck = false;

  meta = {
    inherit (project) description;
    license = lib.licenses.gpl3Plus;
    mainProgram = "warm-reconcile";
    platforms = lib.platforms.linux;
  };
}
