"""The clock of a run: seconds by stage, over all the sessions that it takes."""

from __future__ import annotations

import time
from collections.abc import Mapping

__all__ = ["Clock"]


class Clock:
    """Counts the seconds that a run is computed, stage by stage.

    A run that is resumed takes up the seconds that its checkpoint has. The pause between two
    sessions does not count, nor does what was computed after the last save and is computed again.

    Args:
        stage: The stage that begins now.
    """

    def __init__(self, stage: str) -> None:
        self._start = self._since = time.perf_counter()
        self._earlier = 0.0
        self._stage: str | None = stage
        self._seconds: dict[str, float] = {}

    def take_up(self, timings: Mapping[str, float]) -> None:
        """Count from what earlier sessions took, as their ``timings`` had it."""
        self._earlier += timings["total_s"]
        for name, seconds in timings.items():
            if name != "total_s":
                self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def begin(self, stage: str | None) -> None:
        """End the stage before, and begin this one; with None what follows is of no stage."""
        now = time.perf_counter()
        self._seconds = self._until(now)
        self._stage, self._since = stage, now

    @property
    def seconds(self) -> float:
        """Seconds of the run so far, over all its sessions."""
        return self._earlier + time.perf_counter() - self._start

    def timings(self) -> dict[str, float]:
        """Return seconds as report.json has them: ``total_s``, and one entry a stage so far."""
        now = time.perf_counter()
        seconds = {"total_s": self._earlier + now - self._start, **self._until(now)}
        return {name: round(value, 3) for name, value in seconds.items()}

    def _until(self, now: float) -> dict[str, float]:
        """Return the seconds of each stage, those of the one that runs included."""
        if self._stage is None:
            return self._seconds
        name = f"{self._stage}_s"
        return self._seconds | {name: self._seconds.get(name, 0.0) + now - self._since}
