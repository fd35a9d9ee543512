"""Gives the same thing the same number in every frame of an item."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sandbox.learning.prediction import Detection, Segment


class Tracker:
    """Follows things over the frames of one item; feed the frames in order."""

    def assign(self, things: Sequence[Detection | Segment]) -> list[int]:
        """Returns the track of each thing of the next frame."""
        raise SystemExit(things)
