"""The sandbox's settings, as the command line gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """Everything that can be chosen at start."""

    state: Path
    host: str = "127.0.0.1"
    port: int = 0
    """0 takes a free one."""
    import_folder: Path | None = None
    faults_file: Path | None = None
    seed: int = 7
    """Of the generated data; only the first start with a state folder generates."""
    page_size: int = 20
    """Results on one page; small, so that a client's paging is exercised."""
    parallel_trainings: int = 2
    """Each uses one core."""
    link_seconds: float = 3600
    """How long a weights link works."""
    signature_age_seconds: float = 300
    """How far a signature's `created` may be from this clock, either way."""
    body_limit_bytes: int = 64 * 1024 * 1024
