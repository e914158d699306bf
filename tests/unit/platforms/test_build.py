"""A platform is built from a config with the files that it needs."""

from pathlib import Path

from runner.config import app as configs
from runner.platforms import build


def test_the_overlay_for_traefik_is_found_in_a_checkout() -> None:
    """The default of a gate with an identity: the one in recipes/, with all that it names."""
    config = configs.load(Path(__file__).parents[3] / "examples" / "swarm.toml")
    assert isinstance(config.platform, configs.SwarmPlatformConfig)
    overlay = build._overlay(config, config.platform)
    assert overlay is not None
    assert {"compose.gate.yml", "gate.yml"} <= {path.name for path in overlay.iterdir()}
