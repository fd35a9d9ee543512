"""Draws how the loss of each training fell, for light pages and for dark ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from pathlib import Path

    from demo.scenario import Trained

# Ink, grid and line by the page's theme; the ground is the page's own.
THEMES: Final = {
    "light": ("#4a5261", "#d9dde4", "#2563c9"),
    "dark": ("#a7b0be", "#343b47", "#6ea8ff"),
}
_INCHES: Final = (4.4, 2.5)


def curve_name(trained: Trained, theme: str) -> str:
    """Returns the name of a curve's file."""
    return f"{trained.plan.name}-{trained.number}-{theme}.svg"


def draw_curve(trained: Trained, folder: Path) -> None:
    """Writes the mean loss by epoch, one SVG for each theme."""
    for theme, (ink, grid, line) in THEMES.items():
        # Letters stay letters: smaller, sharp, and in the reader's own font.
        with mpl.rc_context({"svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}):
            figure = Figure(figsize=_INCHES, layout="constrained")
            axes = figure.subplots()
            epochs = sorted(trained.losses)
            losses = [trained.losses[epoch] for epoch in epochs]
            axes.plot(epochs, losses, color=line, linewidth=2, marker="o", markersize=3)
            axes.set_xlabel("epoch", color=ink)
            axes.set_ylabel("mean loss", color=ink)
            axes.set_ylim(bottom=0)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(color=grid, linewidth=0.6)
            axes.tick_params(colors=ink, length=0)
            for spine in axes.spines.values():
                spine.set_visible(False)
            figure.savefig(folder / curve_name(trained, theme), transparent=True)
