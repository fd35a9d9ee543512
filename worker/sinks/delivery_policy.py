"""When deliveries of a sink are tried again, and when an endpoint counts as down."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """When a delivery that failed is tried again.

    Attributes:
        first_seconds: before the second try; each further pause is twice as long.
        longest_seconds: of these pauses.
        retry_seconds: for so long, from the first failure.
        down_after: failures in a row after which the endpoint counts as down.
        probe_seconds: before the first look whether it is up again; each further pause is twice
            as long.
        longest_probe_seconds: of those.
    """

    first_seconds: float = 5.0
    longest_seconds: float = 3_600.0
    retry_seconds: float = 3 * 86_400.0
    down_after: int = 5
    probe_seconds: float = 1.0
    longest_probe_seconds: float = 60.0

    def pause(self, tries: int) -> float:
        """Returns how long to wait after so many failed tries, with jitter."""
        longest = min(self.first_seconds * 2.0 ** min(tries - 1, 30), self.longest_seconds)
        return longest * random.uniform(0.7, 1.0)

    def probe_pause(self, probes: int) -> float:
        """Returns how long an endpoint that is down is left alone, with jitter."""
        longest = min(self.probe_seconds * 2.0 ** min(probes, 30), self.longest_probe_seconds)
        return longest * random.uniform(0.7, 1.0)
