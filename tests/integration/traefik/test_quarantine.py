"""A release that was rolled back is left alone, until there is a reason to try it again."""

import pytest

from traefik.broken import script
from traefik.harness import OLD, App

pytestmark = pytest.mark.traefik

NO_PING = "^ping: status 404"


@pytest.fixture
def rolled_back(app: App) -> App:
    """Bring an app where 2.0.0 failed its gate and 1.0.0 serves again."""
    app.make_last_good("1.0.0")
    app.release("2.0.0", static=app.static(ping=""))
    assert app.reconcile_here(until=NO_PING) == "rolled back"
    assert list(app.quarantined()) == ["2.0.0"]
    return app


def test_a_release_in_quarantine_is_not_tried_again(rolled_back: App) -> None:
    """The next run finds last-good serving, leaves its process alone, and says why."""
    pid = rolled_back.assert_serving("1.0.0")
    ran = rolled_back.run()
    assert (ran.code, ran.outcome, ran.serving) == (0, "unchanged", "1.0.0"), ran
    assert ran.reason == "the latest, 2.0.0, is in quarantine"
    assert rolled_back.assert_serving("1.0.0") == pid


def test_force_tries_it_again(rolled_back: App) -> None:
    """An operator may insist; the release is as broken as before, and rolled back once more."""
    pid = rolled_back.assert_serving("1.0.0")
    ran = rolled_back.run_until(NO_PING, "--force")
    assert (ran.code, ran.outcome, ran.serving) == (12, "rolled back", "1.0.0"), ran
    assert rolled_back.assert_serving("1.0.0") != pid
    rolled_back.assert_never_committed("2.0.0")


def test_force_ends_the_quarantine_of_a_release_that_passes_now(app: App) -> None:
    """The cause of its failure has gone: it is committed, and its quarantine ends."""
    obstacle = app.home / "obstacle"
    obstacle.touch()
    exits = f"if os.path.exists({str(obstacle)!r}):\n    sys.exit(1)\n"
    app.make_last_good("1.0.0")
    app.release(
        "2.0.0", binary=script(app, "2.0.0", exits + "os.execv(REAL, [REAL, *sys.argv[1:]])\n")
    )
    assert app.reconcile_here() == "rolled back"
    obstacle.unlink()
    ran = app.run("--force")
    assert (ran.code, ran.outcome, ran.serving) == (0, "committed", "2.0.0"), ran
    app.assert_serving("2.0.0")
    assert app.quarantined() == {}


def test_a_changed_release_is_another_one(rolled_back: App) -> None:
    """The same label with other content has another digest: it is tried, passes, and serves."""
    rolled_back.release("2.0.0")
    ran = rolled_back.run()
    assert (ran.code, ran.outcome, ran.serving) == (0, "committed", "2.0.0"), ran
    rolled_back.assert_serving("2.0.0")
    assert rolled_back.proven() == ["2.0.0", "1.0.0"]


def test_a_newer_release_is_another_one(rolled_back: App) -> None:
    """The next release is not held responsible for the one before."""
    rolled_back.release("2.0.1", version=OLD)
    ran = rolled_back.run()
    assert (ran.code, ran.outcome, ran.serving) == (0, "committed", "2.0.1"), ran
    rolled_back.assert_serving("2.0.1")
    assert list(rolled_back.quarantined()) == ["2.0.0"]
