"""A broken release is never committed, and the reason names the cause."""

import re
import socket
from collections.abc import Callable

import pytest

from runner.reconcile.events import FallbackChosen, FallbackLive
from traefik.broken import CATALOGUE, IGNORES_ITS_END, NOT_WHAT_IT_PROMISES, SHORT, Broken, script
from traefik.harness import App

pytestmark = pytest.mark.traefik


@pytest.mark.parametrize("broken", CATALOGUE, ids=lambda broken: broken.name)
def test_a_broken_release_is_never_committed(new_app: Callable[[str], App], broken: Broken) -> None:
    """Where a release is proven, it serves again and the broken one is quarantined; else, none is.

    Both at once, because most of the time goes into waiting.
    """
    bare = new_app("bare")
    bare.configure(window=broken.window, timeout=broken.timeout)
    broken.write(bare, "1.0.0")
    running = bare.begin_until(broken.reason, rounds=broken.rounds)

    app = new_app("app")
    app.make_last_good("1.0.0")
    app.configure(window=broken.window, timeout=broken.timeout)
    broken.write(app, "2.0.0")
    ran = app.run_until(broken.reason, rounds=broken.rounds)
    assert (ran.code, ran.outcome, ran.serving) == (12, "rolled back", "1.0.0"), ran
    assert re.search(broken.reason, ran.reason), ran.reason
    app.assert_serving("1.0.0")
    app.assert_never_committed("2.0.0")
    assert app.quarantined() == {"2.0.0": ran.reason}

    stranded = bare.end(running)
    assert (stranded.code, stranded.outcome, stranded.serving) == (20, "stranded", None), stranded
    assert re.search(broken.reason, stranded.reason), stranded.reason
    bare.assert_never_committed("1.0.0")
    assert bare.proven() == []


def test_a_last_good_that_is_stopping_is_not_taken_for_one_that_is_live(app: App) -> None:
    """It still serves one slow client, but no new ones: it has to be deployed again."""
    broken = next(entry for entry in CATALOGUE if entry.name.startswith("exits at once"))
    old = app.make_last_good("1.0.0")
    broken.write(app, "2.0.0")
    with socket.create_connection(("127.0.0.1", app.port)) as slow:
        slow.sendall(b"GET /pi")
        ran = app.run()
    assert (ran.code, ran.outcome, ran.serving) == (12, "rolled back", "1.0.0"), ran
    assert app.assert_serving("1.0.0") != old
    with app.history() as history:
        (last,) = history.attempts(1)
        told = [type(entry) for _, entry in history.story(last.number)]
    assert FallbackChosen in told
    assert FallbackLive not in told


def test_a_release_that_is_not_what_it_promises_touches_nothing(app: App) -> None:
    """It can't be stored: last-good serves on in the same process, and the reason is reported."""
    pid = app.make_last_good("1.0.0")
    NOT_WHAT_IT_PROMISES.write(app, "2.0.0")
    ran = app.run()
    assert (ran.code, ran.outcome, ran.serving) == (0, "unchanged", "1.0.0"), ran
    assert re.search(NOT_WHAT_IT_PROMISES.reason, ran.reason), ran
    assert app.assert_serving("1.0.0") == pid
    app.assert_never_committed("2.0.0")
    assert app.quarantined() == {}


def test_nothing_is_proven_by_a_first_release_that_is_not_what_it_promises(app: App) -> None:
    """There is nothing to deploy: stranded, with the reason, and nothing was started."""
    NOT_WHAT_IT_PROMISES.write(app, "1.0.0")
    ran = app.run()
    assert (ran.code, ran.outcome, ran.serving) == (20, "stranded", None), ran
    assert re.search(NOT_WHAT_IT_PROMISES.reason, ran.reason), ran
    assert app.instances.running() == {}
    app.assert_never_committed("1.0.0")


def test_a_release_that_rotted_in_the_store_never_takes_its_place(app: App) -> None:
    """Its binary has changed: that is detected before last-good is touched."""
    pid = app.make_last_good("1.0.0")
    binary = app.executable("healthy", "#!/bin/sh\nexit 0\n")
    entry = app.state.binaries / f"file-{binary.sha256}"
    entry.mkdir()
    (entry / "sha256").write_text(binary.sha256)
    (entry / "traefik").write_text("#!/bin/sh\nexit 1\n")
    app.release("2.0.0", binary=binary)
    ran = app.run()
    assert (ran.code, ran.outcome, ran.serving) == (12, "rolled back", "1.0.0"), ran
    assert "has changed since it was stored" in ran.reason
    assert app.assert_serving("1.0.0") == pid
    app.assert_never_committed("2.0.0")


def test_last_good_comes_back_after_a_release_that_ignores_its_end(app: App) -> None:
    """It holds the port and shrugs off SIGTERM: it is killed, and last-good serves again."""
    app.make_last_good("1.0.0")
    app.configure(stop_timeout=0.5, timeout=SHORT)
    app.release("2.0.0", binary=script(app, "stubborn", IGNORES_ITS_END))
    ran = app.run_until("^ping: no whole answer within")
    assert (ran.code, ran.outcome, ran.serving) == (12, "rolled back", "1.0.0"), ran
    assert ran.reason.startswith("ping: no whole answer within"), ran.reason
    app.assert_serving("1.0.0")


def test_explain_prints_the_cause_and_the_evidence(app: App) -> None:
    """The output names the release, the cause and every probe."""
    app.make_last_good("1.0.0")
    (broken,) = (b for b in CATALOGUE if b.name == "is another version")
    broken.write(app, "2.0.0")
    app.run_until(broken.reason)
    explained = app.end(
        app.start(
            "-m", "runner.cli.main", "explain", "--config-dir", str(app.config_dir), "traefik"
        )
    )
    assert explained.code == 0
    told = explained.out
    assert "version 3.5.0 answers, expected 3.7.15" in told
    assert "ping: ok" in told
    assert "identity: FAILED" in told
    assert "falling back to 1.0.0" in told
