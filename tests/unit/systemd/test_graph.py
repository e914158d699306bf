"""What systemd prints is read as it is printed; what it doesn't print is never taken for safe."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from recorded import Systemctl, read_recording

from runner.reconcile.errors import OrderingError, UnprovenError
from runner.reconcile.ordering import Edge, Says, Served, Target, UnitGraph
from runner.systemd import graph
from runner.systemd.graph import load_units, prove_live
from runner.systemd.parse import read_dependencies, read_dump, read_jobs, read_show

PROXY = "deploy-proxy.service"
DASHBOARD = "deploy-dashboard.service"
LATE = "late.service"
LONG = (
    "this-is-a-unit-with-a-very-long-name-indeed-so-long-that-no-terminal-of-eighty-columns-can"
    "-show-it-in-one-line.service"
)


def refused(target: Target | str, caller: str = PROXY) -> OrderingError:
    with pytest.raises(OrderingError) as caught:
        prove_live(caller, Target(target) if isinstance(target, str) else target)
    return caught.value


# Reading ------------------------------------------------------------------------------------------


def test_a_dump_tells_units_aliases_and_who_says_what() -> None:
    """Drop-ins included; a unit that was not found does not exist."""
    units = read_dump(read_recording("dump.txt"))
    assert units.units == {DASHBOARD, "consumer.service", "t.timer"}
    assert units.aliases == {"dash.service": DASHBOARD}
    assert {
        Edge(DASHBOARD, PROXY),
        Edge("consumer.service", DASHBOARD),
        Edge("consumer.service", "sock.socket"),
        Edge("consumer.service", "t.timer", Says.BEFORE),
        Edge("multi-user.target", "consumer.service", Says.BEFORE),
        Edge("inst@q.service", DASHBOARD),
        Edge("consumer.service", "basic.target", implied="default"),
        Edge("timers.target", "t.timer", Says.BEFORE, "default"),
        Edge("consumer.service", "ghost.service"),
    } <= set(units.edges)
    assert Edge("consumer.service", "t.timer") not in units.edges


def test_a_dump_of_another_make() -> None:
    """Older versions write Name for Alias; an edge without its origin still is one."""
    text = "\t-> Unit a.service:\n\t\tName: a.service\n\t\tName: b.service\n\t\tAfter: c.service\n"
    units = read_dump(text)
    assert units.aliases == {"b.service": "a.service"}
    assert units.edges == (Edge("a.service", "c.service"),)
    assert not units.units


@pytest.mark.parametrize("text", ["", "-> By units:\n", "\t\tAfter: a.service\n", "\t-> Unit \n"])
def test_a_dump_of_nothing(text: str) -> None:
    """No unit, no edge, no error: whoever reads it looks for what must be there."""
    assert read_dump(text) == UnitGraph(frozenset(), ())


def test_a_description_is_no_edge() -> None:
    """What a unit says about itself can't be taken for what systemd says about it."""
    text = "\t-> Unit a.service:\n\t\tDescription: After: b.service (origin-file)\n"
    assert not read_dump(text).edges


def test_show_is_unquoted() -> None:
    """Names with a backslash are quoted as in C, but for Id."""
    units = read_show(read_recording("show.txt"))
    assert units.units == {LATE, "bridge.service", r"inst@a\x2db.service", DASHBOARD}
    assert units.aliases == {"dash.service": DASHBOARD}
    assert {
        Edge(LATE, "bridge.service"),
        Edge("bridge.service", r"inst@a\x2db.service"),
        Edge(r"inst@a\x2db.service", PROXY),
        Edge(LATE, "bridge.service", Says.BEFORE),
    } <= set(units.edges)


def test_dependencies_are_names() -> None:
    """The unit that was asked for goes first."""
    names = read_dependencies(read_recording("list-dependencies.txt"))
    assert names[:4] == (LATE, "bridge.service", r"inst@a\x2db.service", PROXY)


def test_jobs_tell_who_waits_for_whom() -> None:
    """However long their names are."""
    units = read_jobs(read_recording("list-jobs.txt"))
    assert units.units == {PROXY, DASHBOARD, LONG, "ready.target", "cold.target"}
    assert set(units.edges) == {
        Edge(LONG, PROXY, Says.WAITS),
        Edge(DASHBOARD, "ready.target", Says.WAITS),
        Edge("ready.target", PROXY, Says.WAITS),
        Edge("cold.target", PROXY, Says.WAITS),
        Edge("cold.target", DASHBOARD, Says.WAITS),
        Edge("cold.target", LONG, Says.WAITS),
    }


def test_jobs_are_drawn_in_ascii_elsewhere() -> None:
    """Where the locale has no box drawing."""
    text = read_recording("list-jobs.txt").replace("└─", "`-")
    assert read_jobs(text) == read_jobs(read_recording("list-jobs.txt"))


@pytest.mark.parametrize(
    "text", ["", "No jobs running.\n", "5 jobs listed.\n", "JOB UNIT TYPE STATE"]
)
def test_no_jobs(text: str) -> None:
    """An empty queue, in every form that it is told in."""
    assert read_jobs(text) == UnitGraph(frozenset(), ())


# The running host ---------------------------------------------------------------------------------

SHOW = (
    read_recording("show.txt") + f"\nId={PROXY}\nNames={PROXY}\nLoadState=loaded\nAfter=\nBefore=\n"
)


def test_a_target_after_the_caller_is_refused_with_its_chain(systemctl_says: Systemctl) -> None:
    """Through a unit that is loaded for its sake, and an instance of a template."""
    systemctl_says(list_dependencies=read_recording("list-dependencies.txt"), show=SHOW)
    assert refused(LATE).message.endswith(
        f": {LATE} → After= → bridge.service → After= → inst@a\\x2db.service → After= → {PROXY}"
    )


def test_what_the_caller_deploys_is_not_asked_about(systemctl_says: Systemctl) -> None:
    """A host without systemd can run what needs no order."""
    systemctl_says(script="exit 1")
    target = Target(PROXY, Served.BY_ITS_DEPLOYMENT)
    assert prove_live(PROXY, target) == target


def test_the_caller_under_another_name(systemctl_says: Systemctl) -> None:
    """Its deployment is safe under every name of it, the unit itself under none."""
    systemctl_says(list_dependencies="dash.service\n", show=SHOW)
    target = Target("dash.service", Served.BY_ITS_DEPLOYMENT)
    assert prove_live(DASHBOARD, target) == target
    assert "is the caller itself" in refused("dash.service", DASHBOARD).message


def test_a_target_before_the_caller_is_safe(systemctl_says: Systemctl) -> None:
    """Nothing leads back to the caller, and no job waits for it."""
    systemctl_says(list_dependencies=f"{PROXY}\n", show=SHOW, list_jobs="")
    assert prove_live(LATE, Target(PROXY)) == Target(PROXY)


def test_a_job_that_waits_is_refused_with_both_names(systemctl_says: Systemctl) -> None:
    """Whatever the order of the units says: this is what is happening."""
    show = "\n".join(
        f"Id={unit}\nNames={unit} {alias}\nLoadState=loaded\n"
        for unit, alias in ((PROXY, "proxy.service"), (DASHBOARD, "dash.service"))
    )
    jobs = read_recording("list-jobs.txt")
    systemctl_says(list_dependencies="dash.service\n", show=show, list_jobs=jobs)
    error = refused("dash.service", "proxy.service")
    assert error.message == (
        "a job of dash.service is waiting for the job of proxy.service, whose gate would ask it:"
        f" dash.service = {DASHBOARD} → waits for → ready.target → waits for → {PROXY}"
        " = proxy.service"
    )
    assert error.chain == (DASHBOARD, "ready.target", PROXY)


def test_systemctl_must_agree_with_itself(systemctl_says: Systemctl) -> None:
    """A caller among what is ahead, without a way to it, is a probe left open."""
    show = f"Id={PROXY}\nNames={PROXY}\nLoadState=loaded\n\nId={LATE}\nLoadState=loaded\n"
    systemctl_says(list_dependencies=read_recording("list-dependencies.txt"), show=show)
    error = refused(LATE)
    assert isinstance(error, UnprovenError)
    assert error.message == (
        f"systemd counts {PROXY} among the units that {LATE} starts after, but shows no way from"
        " one to the other"
    )


@pytest.mark.parametrize("target", ["masked.service", "missing.service"])
def test_a_unit_that_cannot_start_is_unknown(systemctl_says: Systemctl, target: str) -> None:
    """Masked, or not there: systemctl answers as readily as for any other."""
    systemctl_says(list_dependencies=f"{target}\n", show=SHOW)
    assert f"the target {target} is unknown" in refused(target).message


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo not booted with systemd >&2; exit 1", "systemctl failed with status 1: not booted"),
        ("exit 3", "systemctl failed with status 3: "),
        ("echo", f"the target {LATE} is unknown"),
        ("echo Id=late.service; echo 'Names=\"'", "prints can't be read: No closing"),
        ("sleep 600", "systemctl did not answer for 0.5 s"),
    ],
)
def test_no_answer_is_no_proof(
    systemctl_says: Systemctl, monkeypatch: pytest.MonkeyPatch, script: str, told: str
) -> None:
    """Whatever goes wrong with the probe, the target is refused, and a hint says what to do."""
    monkeypatch.setattr(graph, "PATIENCE", 0.5 if "sleep" in script else 120.0)
    systemctl_says(script=script)
    error = refused(LATE)
    assert isinstance(error, UnprovenError)
    assert told in error.message
    assert error.hint


def test_a_host_without_systemctl_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No systemd, no order, no proof."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refused(LATE).message == "systemctl can't be started: No such file or directory"


# A directory of unit files ------------------------------------------------------------------------

Analyze = Callable[[str], Path]


def unloadable(directory: Path) -> UnprovenError:
    """Fail to load a directory; a hint says what to do."""
    with pytest.raises(UnprovenError) as caught:
        load_units(directory)
    assert caught.value.hint
    return caught.value


@pytest.fixture
def analyze(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Analyze:
    """Put a ``systemd-analyze`` on the PATH: a script of the shell."""
    program = tmp_path / "systemd" / "bin" / "systemd-analyze"
    program.parent.mkdir(parents=True)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(graph, "_RUN", tmp_path)  # it is there

    def make(script: str) -> Path:
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return program

    return make


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Make a directory with one unit."""
    place = tmp_path / "units"
    place.mkdir()
    (place / PROXY).touch()
    return place


def test_without_systemd_no_directory_can_be_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other program reads unit files as systemd does."""
    monkeypatch.setenv("PATH", str(tmp_path))
    error = unloadable(tmp_path)
    assert error.message == f"systemd-analyze is not installed: without it {tmp_path} can't be read"


def test_a_directory_that_is_not_there(analyze: Analyze, tmp_path: Path) -> None:
    """It is no directory without units."""
    analyze("exit 0")
    error = unloadable(tmp_path / "gone")
    assert error.message.startswith(f"the units in {tmp_path}/gone can't be read: No such file")


def test_an_empty_directory_has_no_units(analyze: Analyze, tmp_path: Path) -> None:
    """Without a unit to name, there is nothing to ask systemd."""
    analyze("exit 9")
    (tmp_path / "units").mkdir()
    assert load_units(tmp_path / "units") == UnitGraph(frozenset(), ())


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("exit 0", "systemd-analyze printed none of 1 units"),
        ("exit 1", "systemd-analyze printed none of 1 units"),
        ("echo '-> By units:'", "systemd-analyze printed none of 1 units"),
        ("echo one >&2; echo two >&2; exit 2", "systemd-analyze failed with status 2: two"),
        ("kill -9 $$", "systemd-analyze failed with status -9: "),
        ("sleep 600", "systemd-analyze did not answer for 0.5 s"),
        (
            "for name; do :; done; printf '\\t-> Unit %s:\\n\\t\\tAfter: x%s\\n' $name $name",
            "systemd-analyze names more units each time it is asked: 51 by now",
        ),
    ],
)
def test_a_systemd_that_fails_proves_nothing(
    analyze: Analyze, monkeypatch: pytest.MonkeyPatch, directory: Path, script: str, told: str
) -> None:
    """A graph without units would find every target unknown, but would not say why."""
    monkeypatch.setattr(graph, "PATIENCE", 0.5 if "sleep" in script else 120.0)
    analyze(script)
    assert unloadable(directory).message.startswith(told)


def test_a_missing_run_directory_is_told(
    analyze: Analyze, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, directory: Path
) -> None:
    """systemd-analyze must make it, and this user may not, and has no namespaces either."""
    analyze("exit 1")
    monkeypatch.setattr(graph, "_RUN", tmp_path / "gone" / "systemd")
    (tmp_path / "systemd" / "bin" / "unshare").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "systemd" / "bin" / "unshare").chmod(0o755)
    assert unloadable(directory).hint.endswith(f"as root, mkdir -p {tmp_path}/gone/systemd")


def test_a_run_directory_is_provided_to_who_can_not_make_it(
    analyze: Analyze, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, directory: Path
) -> None:
    """By the one program that can: `unshare`, with a mount of its own. Else it is not needed."""
    program = analyze(f"printf '\\t-> Unit {PROXY}:\\n\\t\\tUnit Load State: loaded\\n'")
    record = tmp_path / "unshared"
    (program.parent / "unshare").write_text(
        f'#!/bin/sh\necho "$*" >> {record}\nshift 6; exec "$@"\n'
    )
    (program.parent / "unshare").chmod(0o755)
    load_units(directory)
    assert not record.exists()
    monkeypatch.setattr(graph, "_RUN", tmp_path / "gone" / "systemd")
    assert load_units(directory).knows(PROXY)
    assert "--map-root-user --mount sh -c mount -t tmpfs tmpfs /run" in record.read_text()


def test_a_program_that_cannot_be_started(analyze: Analyze, directory: Path) -> None:
    """Its trouble is told."""
    analyze("").write_bytes(b"\x7fELF")
    error = unloadable(directory)
    assert error.message == "systemd-analyze can't be started: Exec format error"


def test_what_systemd_is_given(analyze: Analyze, directory: Path) -> None:
    """The directory goes before systemd's own units; no generator; nothing of the caller's.

    What is named in the answer is asked about, too, until nothing new is named; status 1 only says
    that something is wrong with a unit.
    """
    program = analyze(
        f"""env > {directory}/environment
        echo "$*" >> {directory}/asked
        [ "$PWD" = "${{SYSTEMD_UNIT_PATH%%:*}}" ] && [ -e {PROXY} ] || exit 3
        shift 4
        for name; do
            printf '\t-> Unit %s:\n\t\tUnit Load State: loaded\n' $name
        done
        case "$*" in
            *deep.target*) ;;
            *early.target*) printf '\t\tBefore: deep.target (destination-file)\n' ;;
            *) printf '\t\tAfter: early.target (origin-file)\n\t\tAfter: dev-sda.device\n' ;;
        esac
        exit 1"""
    )
    graph = load_units(directory, ["worker@a.service"])
    assert graph.units == {PROXY, "worker@a.service", "early.target", "deep.target"}
    given = dict(
        line.split("=", 1) for line in (directory / "environment").read_text().splitlines()
    )
    prefix = program.parents[1]
    assert given["SYSTEMD_UNIT_PATH"].split(":")[1:] == [
        f"{prefix}/lib/systemd/system",
        f"{prefix}/example/systemd/system",
    ]
    assert given.keys() - {"PWD", "OLDPWD", "SHLVL", "_"} == {
        *("PATH", "LC_ALL", "SYSTEMD_UNIT_PATH", "SYSTEMD_UTF8", "SYSTEMD_COLORS"),
        *("SYSTEMD_URLIFY", "SYSTEMD_PAGER", "SYSTEMD_LOG_LEVEL", "SYSTEMD_LOG_TARGET"),
        *("SYSTEMD_GENERATOR_PATH", "SYSTEMD_ENVIRONMENT_GENERATOR_PATH"),
    }
    assert not Path(given["SYSTEMD_GENERATOR_PATH"]).is_dir()
    options = "verify --man=no --generators=no --"
    assert (directory / "asked").read_text().splitlines() == [
        f"{options} {PROXY} worker@a.service",
        f"{options} {PROXY} early.target worker@a.service",
        f"{options} deep.target {PROXY} early.target worker@a.service",
    ]
