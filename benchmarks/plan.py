"""What a run of the benchmarks does: which contenders, how long, how often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.contenders.contender import Contender
    from benchmarks.processes import Cores


@dataclass(frozen=True, slots=True)
class Plan:
    """What every scenario goes by.

    Attributes:
        contenders: in the order of the tables; ours is among them where it takes part.
        short: whether only to show that everything works.
        long: whether also what takes many minutes.
        rounds: how often each is measured, one after the other and over again.
        seconds: about how long one measurement takes.
    """

    contenders: tuple[Contender, ...]
    cores: Cores
    short: bool
    long: bool
    rounds: int
    seconds: float

    @property
    def queued(self) -> tuple[Contender, ...]:
        """The contenders that have a queue."""
        return tuple(contender for contender in self.contenders if contender.queued)

    def has(self, name: str) -> bool:
        """Returns whether a contender takes part."""
        return any(contender.name == name for contender in self.contenders)
