"""Where a machine's apps find their releases: what abra keeps, or a directory, as a config says."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from lab.machine import ProofError

LIMIT: Final = 30.0


class Shelf:
    """The releases of one app on the disk of a machine, which may be running."""

    def __init__(self, root: Path, name: str, config: Mapping[str, Any]) -> None:
        self._root = root
        self._name = name
        self._source: Mapping[str, Any] = config["source"]
        self.variables = {"LOG_LEVEL": "INFO"}
        match self._source["kind"]:
            case "abra":
                self.stack = str(
                    config["platform"].get("stack") or self._source["domain"].replace(".", "_")
                )
                self.variables["DOMAIN"] = self._source["domain"]
                self._begin_checkout()
            case "directory":
                self.stack = str(config["platform"]["stack"])
                self._inside(self._source["path"]).mkdir(parents=True)
                if "env_file" in config["platform"]:
                    self._write_variables(self._inside(config["platform"]["env_file"]), {})
            case kind:
                raise ProofError(f"{name}: no machine has releases of the kind {kind}")

    @property
    def domain(self) -> str | None:
        """What the app is asked for by, if its config tells."""
        domain = self._source.get("domain")
        return None if domain is None else str(domain)

    @property
    def place(self) -> Path:
        """The directory of the releases, or of the checkout; on this host."""
        if self._source["kind"] == "directory":
            return self._inside(self._source["path"])
        return self._abra / "recipes" / self._name

    def offer(self, write: Callable[[Path], Path]) -> str:
        """Add a release, which ``write`` puts into a directory of its own; return its label."""
        with tempfile.TemporaryDirectory() as scratch:
            release = write(Path(scratch))
            if self._source["kind"] == "directory":
                # A run that looks meanwhile finds all of it or nothing.
                draft = self.place / f".{release.name}"
                shutil.copytree(release, draft)
                draft.rename(self.place / release.name)
            else:
                self._commit(release)
            return release.name

    @property
    def _abra(self) -> Path:
        return self._inside(self._source.get("directory", "/root/.abra"))

    def _begin_checkout(self) -> None:
        self.place.mkdir(parents=True)
        self._git("init", "--quiet", "--initial-branch=main")
        server = self._source.get("server", "default")
        file = self._abra / "servers" / server / f"{self._source['domain']}.env"
        self._write_variables(file, {"TYPE": self._name})

    def _write_variables(self, file: Path, more: Mapping[str, str]) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{k}={v}\n" for k, v in {**more, **self.variables}.items()))

    def _commit(self, release: Path) -> None:
        for old in self.place.iterdir():
            if old.name != ".git":
                old.unlink()
        shutil.copytree(release, self.place, dirs_exist_ok=True)
        self._git("add", "--all")
        self._git("commit", "--quiet", "--allow-empty", f"--message={release.name}")
        self._git("tag", release.name)

    def _git(self, *arguments: str) -> None:
        who = ("-c", "user.name=Proof", "-c", "user.email=proof@example.com")
        subprocess.run(
            ["git", *who, "-c", "commit.gpgsign=false", *arguments],
            cwd=self.place,
            check=True,
            capture_output=True,
            timeout=LIMIT,
        )

    def _inside(self, path: str) -> Path:
        return self._root / path.lstrip("/")
