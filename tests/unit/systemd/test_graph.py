"""Parsing of systemd's output into graphs, proofs on the running host, and loading a directory."""

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


def test_a_dump_has_units_aliases_and_the_origin_of_edges() -> None:
    """Edges of drop-ins are included; a unit that was not found is not in the graph."""
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
    """Older versions print Name for Alias; an edge without an origin is kept."""
    text = "\t-> Unit a.service:\n\t\tName: a.service\n\t\tName: b.service\n\t\tAfter: c.service\n"
    units = read_dump(text)
    assert units.aliases == {"b.service": "a.service"}
    assert units.edges == (Edge("a.service", "c.service"),)
    assert not units.units


@pytest.mark.parametrize("text", ["", "-> By units:\n", "\t\tAfter: a.service\n", "\t-> Unit \n"])
def test_a_dump_of_nothing(text: str) -> None:
    """Other text gives no unit, no edge and no error: the caller checks for its units."""
    assert read_dump(text) == UnitGraph(frozenset(), ())


def test_a_description_is_no_edge() -> None:
    """Text in a unit's description is not read as a field of the dump."""
    text = "\t-> Unit a.service:\n\t\tDescription: After: b.service (origin-file)\n"
    assert not read_dump(text).edges


def test_show_is_unquoted() -> None:
    """Names with a backslash are quoted as in C, except in Id."""
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
    """The unit of the query is first."""
    names = read_dependencies(read_recording("list-dependencies.txt"))
    assert names[:4] == (LATE, "bridge.service", r"inst@a\x2db.service", PROXY)


def test_jobs_have_the_jobs_that_they_wait_for() -> None:
    """Names of any length are read."""
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
    """The tree without box drawing characters is read."""
    text = read_recording("list-jobs.txt").replace("└─", "`-")
    assert read_jobs(text) == read_jobs(read_recording("list-jobs.txt"))


@pytest.mark.parametrize(
    "text", ["", "No jobs running.\n", "5 jobs listed.\n", "JOB UNIT TYPE STATE"]
)
def test_no_jobs(text: str) -> None:
    """An empty queue is read in each form that versions print."""
    assert read_jobs(text) == UnitGraph(frozenset(), ())


# The running host ---------------------------------------------------------------------------------

SHOW = (
    read_recording("show.txt") + f"\nId={PROXY}\nNames={PROXY}\nLoadState=loaded\nAfter=\nBefore=\n"
)


def test_a_target_after_the_caller_is_refused_with_its_chain(systemctl_says: Systemctl) -> None:
    """The chain leads through a unit loaded by the query, and an instance of a template."""
    systemctl_says(list_dependencies=read_recording("list-dependencies.txt"), show=SHOW)
    assert refused(LATE).message.endswith(
        f": {LATE} → After= → bridge.service → After= → inst@a\\x2db.service → After= → {PROXY}"
    )


def test_the_callers_own_deployment_needs_no_query(systemctl_says: Systemctl) -> None:
    """A probe of the caller's own deployment is safe, even if systemctl fails."""
    systemctl_says(script="exit 1")
    target = Target(PROXY, Served.BY_ITS_DEPLOYMENT)
    assert prove_live(PROXY, target) == target


def test_the_caller_under_another_name(systemctl_says: Systemctl) -> None:
    """The deployment is safe by any alias of the caller, the unit itself by none."""
    systemctl_says(list_dependencies="dash.service\n", show=SHOW)
    target = Target("dash.service", Served.BY_ITS_DEPLOYMENT)
    assert prove_live(DASHBOARD, target) == target
    assert "is the caller itself" in refused("dash.service", DASHBOARD).message


def test_a_target_before_the_caller_is_safe(systemctl_says: Systemctl) -> None:
    """The target does not start after the caller, and no job of it waits for the caller."""
    systemctl_says(list_dependencies=f"{PROXY}\n", show=SHOW, list_jobs="")
    assert prove_live(LATE, Target(PROXY)) == Target(PROXY)


def test_a_job_that_waits_is_refused_with_both_names(systemctl_says: Systemctl) -> None:
    """A job that waits now is refused, even if the order of the units is safe."""
    show = "\n".join(
        f"Id={unit}\nNames={unit} {alias}\nLoadState=loaded\n"
        for unit, alias in ((PROXY, "proxy.service"), (DASHBOARD, "dash.service"))
    )
    jobs = read_recording("list-jobs.txt")
    systemctl_says(list_dependencies="dash.service\n", show=show, list_jobs=jobs)
    error = refused("dash.service", "proxy.service")
    assert error.message == (
        "a job of dash.service is waiting for the job of proxy.service, whose gate would probe it:"
        f" dash.service = {DASHBOARD} → waits for → ready.target → waits for → {PROXY}"
        " = proxy.service"
    )
    assert error.chain == (DASHBOARD, "ready.target", PROXY)


def test_systemctl_must_agree_with_itself(systemctl_says: Systemctl) -> None:
    """list-dependencies names the caller but show has no chain to it: unproven."""
    show = f"Id={PROXY}\nNames={PROXY}\nLoadState=loaded\n\nId={LATE}\nLoadState=loaded\n"
    systemctl_says(list_dependencies=read_recording("list-dependencies.txt"), show=show)
    error = refused(LATE)
    assert isinstance(error, UnprovenError)
    assert error.message == (
        f"systemd lists {PROXY} among the units that {LATE} starts after, but shows no chain of"
        " dependencies between them"
    )


@pytest.mark.parametrize("target", ["masked.service", "missing.service"])
def test_a_unit_that_cannot_start_is_unknown(systemctl_says: Systemctl, target: str) -> None:
    """A masked or missing unit: systemctl exits with 0 for it as for any other."""
    systemctl_says(list_dependencies=f"{target}\n", show=SHOW)
    assert f"the target {target} is unknown" in refused(target).message


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo not booted with systemd >&2; exit 1", "systemctl failed with status 1: not booted"),
        ("exit 3", "systemctl failed with status 3: "),
        ("echo", f"the target {LATE} is unknown"),
        ("echo Id=late.service; echo 'Names=\"'", "can't be parsed: No closing"),
        ("sleep 600", "systemctl did not answer for 0.5 s"),
    ],
)
def test_a_failed_query_of_systemd_is_unproven(
    systemctl_says: Systemctl, monkeypatch: pytest.MonkeyPatch, script: str, message: str
) -> None:
    """If systemctl fails in any way, the target is refused, with a hint."""
    monkeypatch.setattr(graph, "PATIENCE", 0.5 if "sleep" in script else 120.0)
    systemctl_says(script=script)
    error = refused(LATE)
    assert isinstance(error, UnprovenError)
    assert message in error.message
    assert error.hint


def test_a_host_without_systemctl_proves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without systemctl the order of units is unproven."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refused(LATE).message == "systemctl can't be started: No such file or directory"


# A directory of unit files ------------------------------------------------------------------------

Analyze = Callable[[str], Path]


def unloadable(directory: Path) -> UnprovenError:
    """Fail to load a directory, with a hint."""
    with pytest.raises(UnprovenError) as caught:
        load_units(directory)
    assert caught.value.hint
    return caught.value


@pytest.fixture
def analyze(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Analyze:
    """Put a shell script named ``systemd-analyze`` on the PATH."""
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
    assert error.message == (
        f"systemd-analyze is not installed: the units in {tmp_path} can't be loaded"
    )


def test_a_missing_directory_is_an_error(analyze: Analyze, tmp_path: Path) -> None:
    """A missing directory is an error, not a directory without units."""
    analyze("exit 0")
    error = unloadable(tmp_path / "gone")
    assert error.message.startswith(f"the units in {tmp_path}/gone can't be read: No such file")


def test_an_empty_directory_has_no_units(analyze: Analyze, tmp_path: Path) -> None:
    """An empty directory gives an empty graph; systemd-analyze is not run."""
    analyze("exit 9")
    (tmp_path / "units").mkdir()
    assert load_units(tmp_path / "units") == UnitGraph(frozenset(), ())


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 0", "systemd-analyze printed none of 1 units"),
        ("exit 1", "systemd-analyze printed none of 1 units"),
        ("echo '-> By units:'", "systemd-analyze printed none of 1 units"),
        ("echo one >&2; echo two >&2; exit 2", "systemd-analyze failed with status 2: two"),
        ("kill -9 $$", "systemd-analyze failed with status -9: "),
        ("sleep 600", "systemd-analyze did not answer for 0.5 s"),
        (
            "for name; do :; done; printf '\\t-> Unit %s:\\n\\t\\tAfter: x%s\\n' $name $name",
            "systemd-analyze still names new units after 50 calls: 51 so far",
        ),
    ],
)
def test_a_systemd_that_fails_proves_nothing(
    analyze: Analyze, monkeypatch: pytest.MonkeyPatch, directory: Path, script: str, message: str
) -> None:
    """The error names the failure; an empty graph would only make every target unknown."""
    monkeypatch.setattr(graph, "PATIENCE", 0.5 if "sleep" in script else 120.0)
    analyze(script)
    assert unloadable(directory).message.startswith(message)


def test_a_missing_run_directory_is_reported(
    analyze: Analyze, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, directory: Path
) -> None:
    """systemd-analyze must make it, and this user may not, and has no namespaces either."""
    analyze("exit 1")
    monkeypatch.setattr(graph, "_RUN", tmp_path / "gone" / "systemd")
    (tmp_path / "systemd" / "bin" / "unshare").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "systemd" / "bin" / "unshare").chmod(0o755)
    assert unloadable(directory).hint.endswith(f"as root: mkdir -p {tmp_path}/gone/systemd")


def test_a_run_directory_is_provided_to_users_who_can_not_make_it(
    analyze: Analyze, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, directory: Path
) -> None:
    """`unshare` is used, with its own mount, only if ``/run/systemd`` can't be made otherwise."""
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
    """The error has the kernel's reason."""
    analyze("").write_bytes(b"\x7fELF")
    error = unloadable(directory)
    assert error.message == "systemd-analyze can't be started: Exec format error"


def test_the_environment_and_arguments_of_systemd_analyze(
    analyze: Analyze, directory: Path
) -> None:
    """The directory precedes systemd's own units; no generator runs; no other variable is passed.

    Units named in the output are added to the next call until no new one is named; exit status 1
    (a fault in some unit) is accepted.
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
