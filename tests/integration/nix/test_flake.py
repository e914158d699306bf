"""The flake and the package, as far as they can be evaluated without nixpkgs."""

import ast
import re
import tomllib

import pytest

from nix.evaluation import ROOT, evaluate

pytestmark = pytest.mark.usefixtures("nix")


def test_every_module_is_in_the_flake() -> None:
    """Each by its file's name; ``default`` imports all of them."""
    names = evaluate(
        f"""
        builtins.attrNames
          ((import {ROOT}/flake.nix).outputs {{ self = {{ }}; nixpkgs = {{ }}; }}).nixosModules
        """
    )
    files = {file.stem for file in (ROOT / "nix/modules").glob("*.nix")}
    assert set(names) == {*files, "default"}


def test_the_shell_has_what_the_readme_asks_for() -> None:
    """Python with pip, make and git: `make` installs the rest in the checkout."""
    names = evaluate(
        f"""
        let
          pkgs = {{
            git = "git"; gnumake = "make"; nixfmt-rfc-style = "nixfmt";
            mkShell = shell: shell.packages;
            python3.withPackages = choose: "python with " + toString (choose {{ pip = "pip"; }});
          }};
          nixpkgs = {{
            lib.genAttrs = names: make: builtins.listToAttrs
              (map (name: {{ inherit name; value = make name; }}) names);
            legacyPackages.x86_64-linux = pkgs;
            legacyPackages.aarch64-linux = pkgs;
          }};
          flake = (import {ROOT}/flake.nix).outputs {{ self = {{ }}; inherit nixpkgs; }};
        in
        builtins.mapAttrs (_: shells: shells.default) flake.devShells
        """
    )
    tools = ["python with pip", "git", "make", "nixfmt"]
    assert names == {"x86_64-linux": tools, "aarch64-linux": tools}


def test_the_package_needs_what_the_project_says() -> None:
    """The package has exactly the dependencies of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [
        re.split(r"[<>=!~;\[ ]", requirement)[0]
        for requirement in project["project"]["dependencies"]
    ]
    built = [
        re.split(r"[<>=!~;\[ ]", requirement)[0]
        for requirement in project["build-system"]["requires"]
    ]
    named = " ".join(f'"{name}" = "{name}";' for name in (*wanted, *built))
    package = evaluate(
        f"""
        import {ROOT}/nix/package.nix {{
          lib = {{
            fileset = {{ toSource = source: source.fileset; unions = map toString; }};
            licenses.gpl3Plus = "";
            platforms.linux = [ ];
          }};
          python3Packages = {{ buildPythonApplication = package: package; {named} }};
        }}
        """
    )
    assert package["dependencies"] == wanted
    assert package["build-system"] == built
    assert package["version"] == project["project"]["version"]
    assert f"{ROOT}/runner" in package["src"]


def test_the_script_of_the_cold_boot_is_python() -> None:
    """The script parses; it is never run here: there is no KVM, and no nixpkgs."""
    script = evaluate(
        f"""
        (import {ROOT}/nix/checks/cold-boot.nix {{ modules = {{ }}; }} {{
          pkgs = {{ }};
          lib = {{ }};
        }}).testScript
        """
    )
    assert isinstance(script, str)
    called = [node for node in ast.walk(ast.parse(script)) if isinstance(node, ast.Call)]
    assert "wait_for_unit" in {n.func.attr for n in called if isinstance(n.func, ast.Attribute)}
