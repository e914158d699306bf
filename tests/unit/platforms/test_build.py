"""What a config without an overlay of its own gets."""

from runner.platforms.build import _own_overlay


def test_a_checkout_has_the_overlay_for_traefik() -> None:
    """It is found from wherever this module stands."""
    assert (_own_overlay() / "compose.gate.yml").is_file()
