"""Last-good comes back by itself: after a power cut, and with the source of releases gone."""

import shutil
from collections.abc import Callable
from typing import Final

import pytest

from traefik.broken import SHORT
from traefik.harness import App

pytestmark = pytest.mark.traefik


def test_last_good_is_restored_after_a_power_cut(app: App) -> None:
    """Its process was killed: the same release is deployed again, gated, and serves."""
    pid = app.make_last_good("1.0.0")
    app.kill_instances()
    ran = app.run()
    assert (ran.code, ran.outcome, ran.serving) == (0, "restored", "1.0.0"), ran
    assert app.assert_serving("1.0.0") != pid
    assert app.proven() == ["1.0.0"]


def test_last_good_is_restored_without_its_source(app: App) -> None:
    """After a power cut with the source gone, the kept copy is all that it takes."""
    app.make_last_good("1.0.0")
    app.kill_instances()
    shutil.rmtree(app.releases)
    ran = app.run()
    assert (ran.code, ran.outcome, ran.serving) == (0, "restored", "1.0.0"), ran
    assert "can't be listed" in ran.reason
    app.assert_serving("1.0.0")


def test_a_hung_last_good_is_restored(app: App) -> None:
    """It runs, but answers nothing: its verification fails, and it is deployed again."""
    pid = app.make_last_good("1.0.0")
    ((process,),) = app.instances.running().values()
    process.suspend()
    app.configure(timeout=SHORT)
    ran = app.run_until("^ping: no whole answer within")
    assert (ran.code, ran.outcome, ran.serving) == (0, "restored", "1.0.0"), ran
    assert app.assert_serving("1.0.0") != pid


def test_a_zombie_counts_as_ended(app: App) -> None:
    """If PID 1 is no init, an ended process stays as a zombie: no update may wait for it."""
    app.make_last_good("1.0.0")  # started by this very process, which reaps it at the end only
    app.release("2.0.0")
    ran = app.run()
    assert (ran.code, ran.outcome, ran.serving) == (0, "committed", "2.0.0"), ran
    app.assert_serving("2.0.0")


def _without_a_directory(app: App) -> None:
    shutil.rmtree(app.releases)


def _with_a_file_for_a_directory(app: App) -> None:
    shutil.rmtree(app.releases)
    app.releases.write_text("not a directory\n")


def _without_any_release(app: App) -> None:
    shutil.rmtree(app.releases / "1.0.0")


def _with_a_release_without_a_specification(app: App) -> None:
    (app.release("2.0.0") / "release.toml").unlink()


def _with_a_release_whose_specification_is_garbage(app: App) -> None:
    (app.release("2.0.0") / "release.toml").write_bytes(b"\xff\xfe version")


def _with_a_release_without_a_configuration(app: App) -> None:
    (app.release("2.0.0") / "traefik.yml").unlink()


def _with_a_release_that_leads_elsewhere(app: App) -> None:
    (app.release("2.0.0") / "dynamic" / "link.yml").symlink_to("/etc/hostname")


def _with_a_release_whose_binary_is_gone(app: App) -> None:
    binary = app.executable("gone", "#!/bin/sh\n")
    app.release("2.0.0", binary=binary)
    binary.path.unlink()


def _with_a_repository_that_is_gone(app: App) -> None:
    app.configure(git=f"file://{app.home}/gone.git")


LOSSES: Final = (
    (_without_a_directory, "can't be listed: No such file or directory"),
    (_with_a_file_for_a_directory, "can't be listed: Not a directory"),
    (_without_any_release, "the source offers no release"),
    (_with_a_release_without_a_specification, "2.0.0: release.toml: "),
    (_with_a_release_whose_specification_is_garbage, "2.0.0: release.toml: "),
    (_with_a_release_without_a_configuration, "2.0.0 has no traefik.yml"),
    (_with_a_release_that_leads_elsewhere, "link.yml is not a regular file: refused"),
    (_with_a_release_whose_binary_is_gone, "can't be read: No such file or directory"),
    (_with_a_repository_that_is_gone, "gone.git"),
)


@pytest.mark.parametrize(
    ("lose", "reason"),
    [pytest.param(*loss, id=loss[0].__name__.replace("_", " ").strip()) for loss in LOSSES],
)
def test_last_good_is_left_alone_if_the_latest_is_unknown(
    app: App, lose: Callable[[App], None], reason: str
) -> None:
    """After any failure of the source the process goes on, and the run ends well with a warning."""
    pid = app.make_last_good("1.0.0")
    lose(app)
    ran = app.run()
    assert (ran.code, ran.outcome, ran.serving) == (0, "unchanged", "1.0.0"), ran
    assert ran.reason.startswith("the latest is unknown: ")
    assert reason in ran.reason
    assert app.assert_serving("1.0.0") == pid
    assert app.proven() == ["1.0.0"]
    assert app.quarantined() == {}
