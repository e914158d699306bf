"""The proof on real unit files, as systemd's own loader reads them: one deadlock, well hidden."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from runner.reconcile.errors import OrderingError, UnprovenError
from runner.reconcile.ordering import Served, Target, UnitGraph, prove

Load = Callable[..., UnitGraph]

PROXY = "deploy-proxy.service"
DASHBOARD = "deploy-dashboard.service"
HEAD = f"{DASHBOARD} starts after {PROXY}, which is still starting while its gate runs: "


def refused(units: UnitGraph, target: str = DASHBOARD, caller: str = PROXY) -> OrderingError:
    with pytest.raises(OrderingError) as caught:
        prove(units, caller, Target(target))
    return caught.value


def chain(units: UnitGraph, target: str = DASHBOARD, caller: str = PROXY) -> str:
    """Refuse it, and return the drawn chain."""
    return refused(units, target, caller).message.partition("gate runs: ")[2]


def is_safe(units: UnitGraph, target: str = DASHBOARD, caller: str = PROXY) -> bool:
    return prove(units, caller, Target(target)) == Target(target)


# Hidden, and found --------------------------------------------------------------------------------


def test_the_deadlock_that_was(load: Load) -> None:
    """The dashboard is ordered after the unit whose gate asked it."""
    units = load({PROXY: "", DASHBOARD: f"After={PROXY}\nWants={PROXY}"})
    assert refused(units).message == f"{HEAD}{DASHBOARD} → After= → {PROXY}"
    traefik = Target(PROXY, Served.BY_ITS_DEPLOYMENT)
    assert prove(units, PROXY, traefik) == traefik


def test_before_in_the_callers_own_file(load: Load) -> None:
    """The dashboard's file is innocent."""
    units = load({PROXY: f"Before={DASHBOARD}", DASHBOARD: ""})
    assert chain(units) == f"{DASHBOARD} ← Before= ← {PROXY}"


def test_a_chain_of_three(load: Load) -> None:
    """Neither of the two names the other."""
    units = load({PROXY: "", "net.service": f"After={PROXY}", DASHBOARD: "After=net.service"})
    assert chain(units) == f"{DASHBOARD} → After= → net.service → After= → {PROXY}"


def test_a_target_in_between(load: Load) -> None:
    """A target starts after units that it wants, which no file states: only systemd knows."""
    units = load(
        {
            PROXY: "",
            "ready.target": "",
            f"ready.target.wants/{PROXY}": f"→ ../{PROXY}",
            DASHBOARD: "After=ready.target",
        }
    )
    assert chain(units) == f"{DASHBOARD} → After= → ready.target → After= (default) → {PROXY}"


def test_the_target_of_every_boot(load: Load) -> None:
    """Units that systemd brings along count."""
    units = load(
        {
            PROXY: "",
            f"multi-user.target.wants/{PROXY}": f"→ ../{PROXY}",
            DASHBOARD: "After=multi-user.target",
        }
    )
    assert chain(units) == (
        f"{DASHBOARD} → After= → multi-user.target → After= (default) → {PROXY}"
    )


def test_a_timer_in_between(load: Load) -> None:
    """A unit that a timer starts, starts after the timer."""
    units = load(
        {
            PROXY: "",
            "deploy-dashboard.timer": f"[Unit]\nAfter={PROXY}\n[Timer]\nOnCalendar=daily",
            DASHBOARD: "",
        }
    )
    assert chain(units) == (
        f"{DASHBOARD} ← Before= (implicit) ← deploy-dashboard.timer → After= → {PROXY}"
    )


def test_a_socket_in_between(load: Load) -> None:
    """A unit that a socket starts, starts after the socket."""
    units = load(
        {
            PROXY: "",
            "deploy-dashboard.socket": f"[Unit]\nAfter={PROXY}\n[Socket]\nListenStream=/run/x",
            DASHBOARD: "",
        }
    )
    assert refused(units).chain == (DASHBOARD, "deploy-dashboard.socket", PROXY)


def test_a_path_in_between(load: Load) -> None:
    """A unit that a path starts, starts after the path."""
    units = load(
        {
            PROXY: "",
            "deploy-dashboard.path": f"[Unit]\nAfter={PROXY}\n[Path]\nPathExists=/run/x",
            DASHBOARD: "",
        }
    )
    assert refused(units).chain == (DASHBOARD, "deploy-dashboard.path", PROXY)


def test_an_instance_of_a_template_in_between(load: Load) -> None:
    """Also where the template's own order depends on the instance."""
    units = load(
        {
            PROXY: "",
            "step@.service": "After=stage@%i.service",
            "stage@.service": f"After={PROXY}",
            DASHBOARD: "After=step@two.service",
        }
    )
    assert refused(units).chain == (DASHBOARD, "step@two.service", "stage@two.service", PROXY)


def test_an_instance_that_only_the_probe_names(load: Load) -> None:
    """It is loaded because it is asked for; without that it is unknown, not safe."""
    files = {PROXY: "", "web@.service": f"After={PROXY}"}
    assert isinstance(refused(load(files), "web@a.service"), UnprovenError)
    assert refused(load({}, ("web@a.service",)), "web@a.service").chain == ("web@a.service", PROXY)


def test_an_instance_that_only_a_link_names(load: Load) -> None:
    """It is in no unit's text, but in the folder of a target that no other unit needs."""
    units = load(
        {
            PROXY: "",
            "web@.service": f"After={PROXY}",
            "idle.target": "",
            "idle.target.wants/web@b.service": "→ ../web@.service",
        }
    )
    assert refused(units, "web@b.service").chain == ("web@b.service", PROXY)


@pytest.mark.parametrize("absolute", [False, True], ids=["relative", "absolute"])
def test_an_alias_of_the_target(load: Load, tmp_path: Path, absolute: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A link that systemctl made, and one that a build made."""
    leads = f"{tmp_path}/units/{DASHBOARD}" if absolute else DASHBOARD
    units = load({PROXY: f"Before={DASHBOARD}", DASHBOARD: "", "dash.service": f"→ {leads}"})
    assert chain(units, "dash.service") == (f"dash.service = {DASHBOARD} ← Before= ← {PROXY}")


def test_an_alias_of_the_caller(load: Load) -> None:
    """In the dashboard's file, in the config, or in both."""
    units = load({PROXY: "", "proxy.service": f"→ {PROXY}", DASHBOARD: "After=proxy.service"})
    assert chain(units) == f"{DASHBOARD} → After= → {PROXY}"
    assert chain(units, caller="proxy.service") == (
        f"{DASHBOARD} → After= → {PROXY} = proxy.service"
    )


@pytest.mark.parametrize("folder", [f"{DASHBOARD}.d", "service.d", "deploy-.service.d"])
def test_a_drop_in(load: Load, folder: str) -> None:
    """Of the unit, of its type, of its prefix."""
    units = load({PROXY: "", DASHBOARD: "", f"{folder}/order.conf": f"[Unit]\nAfter={PROXY}\n"})
    assert chain(units) == f"{DASHBOARD} → After= → {PROXY}"


def test_a_unit_without_dependents(load: Load) -> None:
    """No target or unit names it, but the directory has it."""
    units = load({PROXY: "", "ghost.service": f"After={PROXY}"})
    assert refused(units, "ghost.service").chain == ("ghost.service", PROXY)


def test_units_in_a_circle(load: Load) -> None:
    """Systemd would break it by dropping a start job; which one can't be predicted."""
    units = load({PROXY: f"After={DASHBOARD}", DASHBOARD: f"After={PROXY}"})
    assert refused(units).chain == (DASHBOARD, PROXY)


def test_units_that_exclude_each_other(load: Load) -> None:
    """Everything is loaded, and nothing is to be started."""
    units = load(
        {
            PROXY: f"Requires={DASHBOARD}",
            DASHBOARD: f"Conflicts={PROXY}\nAfter={PROXY}\nRequires=rescue.target reboot.target",
        }
    )
    assert refused(units).chain == (DASHBOARD, PROXY)


def test_a_name_that_systemd_escapes(load: Load) -> None:
    r"""A backslash stays a backslash: ``\x2d`` is how a dash in a path is spelt."""
    name = r"srv-a\x2db.service"
    units = load({PROXY: "", name: f"After={PROXY}", DASHBOARD: f"After={name}"})
    assert refused(units).chain == (DASHBOARD, name, PROXY)


# Safe, or unknown ---------------------------------------------------------------------------------


def test_what_the_caller_waits_for_is_safe(load: Load) -> None:
    """Only the other direction is a deadlock; what both start after is none either."""
    units = load(
        {
            PROXY: "After=docker.service common.service",
            "docker.service": "",
            "common.service": "",
            DASHBOARD: "After=common.service",
        }
    )
    assert is_safe(units, "docker.service")
    assert is_safe(units, DASHBOARD)


def test_both_wanted_by_one_target(load: Load) -> None:
    """A target that waits for both does not order them."""
    units = load(
        {
            PROXY: "",
            DASHBOARD: "",
            f"multi-user.target.wants/{PROXY}": f"→ ../{PROXY}",
            f"multi-user.target.wants/{DASHBOARD}": f"→ ../{DASHBOARD}",
        }
    )
    assert is_safe(units)


def test_to_want_is_not_to_wait(load: Load) -> None:
    """Requirements without an order start both at once."""
    assert is_safe(load({PROXY: "", DASHBOARD: f"Requires={PROXY}\nBindsTo={PROXY}"}))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("masked.service", "→ /dev/null"),
        ("dangling.service", "→ gone.service"),
        ("nothing-to-do.service", "[Service]\nType=simple\n"),
        ("empty.timer", "[Timer]\n"),
    ],
)
def test_what_cannot_start_is_unknown(load: Load, name: str, text: str) -> None:
    """It never answers, so a gate that probes it can't pass: it is refused beforehand."""
    error = refused(load({PROXY: "", name: text}), name)
    assert isinstance(error, UnprovenError)
    assert f"the target {name} is unknown or can't be started" in error.message


def test_a_unit_that_no_file_has(load: Load) -> None:
    """Though others name it."""
    error = refused(load({PROXY: "After=gone.service"}), "gone.service")
    assert isinstance(error, UnprovenError)


def test_an_empty_directory(load: Load, tmp_path: Path) -> None:
    """It has no unit: those that systemd brings along count where a unit of it names them."""
    (tmp_path / "units").mkdir()
    units = load({})
    assert units.units == frozenset()
    assert isinstance(refused(units), UnprovenError)


def test_nothing_of_this_host_is_seen(load: Load) -> None:
    """The graph has the units of the directory, and those of systemd's own that they need."""
    units = load({PROXY: ""})
    assert units.knows(PROXY)
    assert not units.knows("warm-reconcile-load-everything.target")
    assert not [edge for edge in units.edges if "warm-reconcile" in edge.later + edge.earlier]


# Where no systemd runs ----------------------------------------------------------------------------

CONTAINER = """\
import pathlib, sys
from runner.systemd.graph import load_units
assert not pathlib.Path("/run/systemd").exists()
assert not pathlib.Path("/sys/fs").exists()
print(load_units(pathlib.Path(sys.argv[1])).knows(sys.argv[2]))
"""


@pytest.mark.parametrize("run", ["rw", "ro"])
def test_a_container_without_systemd(
    need: Callable[[str], str],
    missing: Callable[[str], NoReturn],
    real_systemd: None,
    tmp_path: Path,
    run: str,
) -> None:
    """No cgroups, no ``/sys``, no ``/run/systemd``, which may or may not be made there."""
    del real_systemd
    (tmp_path / PROXY).write_text("[Service]\nType=oneshot\nExecStart=/bin/true\n")
    within = [need("unshare"), "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*within, "mount -t tmpfs none /run"], check=False).returncode:
        missing("this user may not mount in a namespace of its own")
    mounts = f"mount -t tmpfs none /sys && mount -t tmpfs -o {run} none /run"
    command = [sys.executable, "-c", CONTAINER, str(tmp_path), PROXY]
    done = subprocess.run(
        [*within, f'{mounts} && exec "$@"', "sh", *command],
        check=False,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
