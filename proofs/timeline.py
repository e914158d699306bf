"""Draws a boot as an SVG timeline: for each unit its waiting, its start, and its final state."""

from collections.abc import Sequence
from html import escape
from typing import Final

from proofs.machines.machine import UnitState

LEFT: Final = 220
WIDTH: Final = 760
ROW: Final = 24
TOP: Final = 30
COLOURS: Final = {
    "waiting": "#c9c9c9",
    "starting": "#3b82c4",
    "active": "#4a9a5c",
    "failed": "#c0392b",
}
STEPS: Final = (1, 2, 5, 10, 20, 30, 60, 120, 300)


def draw(units: Sequence[UnitState]) -> str:
    """Draw the first start of each unit, in seconds since systemd began."""
    shown = [unit for unit in units if unit.left_inactive is not None]
    shown.sort(key=lambda unit: unit.left_inactive or 0.0)
    idle = [unit for unit in units if unit.left_inactive is None and unit.load != "not-found"]
    end = max((unit.settled or unit.left_inactive or 0 for unit in shown), default=1.0) * 1.08
    height = TOP + ROW * (len(shown) + len(idle)) + 34
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 20} {height}"'
            ' font-family="sans-serif" font-size="12" role="img">'
        ),
        f'<rect width="{LEFT + WIDTH + 20}" height="{height}" fill="#ffffff"/>',
    ]
    parts += _axis(end, height)
    for row, unit in enumerate([*shown, *idle]):
        parts += _row(unit, TOP + ROW * row, end)
    parts += _legend(height - 12)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _axis(end: float, height: int) -> list[str]:
    step = next((step for step in STEPS if end / step <= 12), STEPS[-1])
    parts: list[str] = []
    for mark in range(0, int(end) + 1, step):
        x = _place(mark, end)
        parts.append(
            f'<line x1="{x}" y1="{TOP - 6}" x2="{x}" y2="{height - 30}" stroke="#e4e4e4"/>'
        )
        parts.append(f'<text x="{x}" y="{TOP - 12}" text-anchor="middle">{mark} s</text>')
    return parts


def _row(unit: UnitState, y: int, end: float) -> list[str]:
    name = f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(unit.name)}</text>'
    if unit.left_inactive is None:
        return [name, _bar("waiting", 0, end, y, end)]
    settled = unit.settled if unit.settled is not None else end
    parts = [name, _bar("waiting", 0, unit.left_inactive, y, end)]
    parts.append(_bar("starting", unit.left_inactive, settled, y, end))
    if unit.settled is not None:
        state = "active" if unit.became_active is not None else "failed"
        parts.append(_bar(state, settled, end, y, end))
        text = f"{unit.state} at {settled:.1f} s"
        x, anchor = _place(settled, end), "start"
        if x > LEFT + WIDTH * 0.8:
            x, anchor = x - 4, "end"
        parts.append(
            f'<text x="{x + 4:.0f}" y="{y + 15}" text-anchor="{anchor}" fill="#000000"'
            f' font-size="11">{escape(text)}</text>'
        )
    return parts


def _bar(kind: str, begin: float, stop: float, y: int, end: float) -> str:
    left, right = _place(begin, end), _place(stop, end)
    height = 4 if kind == "waiting" else 14
    top = y + 10 - height // 2 + 1
    return (
        f'<rect x="{left}" y="{top}" width="{max(right - left, 1)}" height="{height}"'
        f' fill="{COLOURS[kind]}" fill-opacity="{1 if kind != "active" else 0.6}"/>'
    )


def _legend(y: int) -> list[str]:
    parts: list[str] = []
    for number, (kind, colour) in enumerate(COLOURS.items()):
        x = LEFT + number * 110
        parts.append(f'<rect x="{x}" y="{y - 9}" width="14" height="9" fill="{colour}"/>')
        parts.append(f'<text x="{x + 20}" y="{y}">{kind}</text>')
    return parts


def _place(moment: float, end: float) -> int:
    return LEFT + round(WIDTH * moment / end)
