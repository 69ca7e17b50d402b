"""A time limit: which of the runs that are left end before it."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Sequence

from hpt.errors import ConfigError
from hpt.runs.run_config import RunConfig
from hpt.study.cost import Cost

#: The estimate beforehand counts as much as so many seconds of experience.
SECONDS_OF_TRUST = 10
#: Of the time that is left, what is spent before the pace is looked at again.
SHARE = 0.25


class TimeLimit:
    """So many minutes from now on; None for no limit.

    Raises
    ------
    ConfigError: for a time that is not above 0.
    """

    def __init__(self, minutes: float | None):
        if minutes is not None and not minutes > 0:
            raise ConfigError(f"minutes={minutes!r} is no time to train in.", "", "minutes=10, or None")
        self.minutes = minutes
        self.ends = time.monotonic() + 60 * (math.inf if minutes is None else minutes)
        self.expected = self.took = SECONDS_OF_TRUST
        self.begun = None

    def runs_in_time(self, runs: Sequence[RunConfig], cost: Cost) -> list[RunConfig]:
        """The next of these runs to start, in their order: those that end in time, as far as the
        estimate and the pace so far tell, and not all of them, so that the pace can be looked at again.

        Where nobody can tell how long a run takes, one a worker at a time.
        """
        if self.minutes is None:
            return list(runs)
        now = time.monotonic()
        if self.begun is not None:
            self.took += now - self.begun
        self.begun = now
        left = self.ends - now
        seconds = {run: cost.calibration.run_seconds(run) for run in runs}
        if any(map(math.isnan, seconds.values())):
            return list(runs[: cost.workers]) if left > 0 else []
        chosen, wall = self._fitting(seconds, left, cost.workers)
        self.expected += wall
        return chosen

    def _fitting(self, seconds, left, workers):
        """The runs that end in time, and when the last of them does."""
        pace = self.took / self.expected
        ends = [0.0] * workers
        chosen = []
        for run, expected in seconds.items():
            end = ends[0] + expected
            if end * pace > left or (len(chosen) >= workers and end * pace > SHARE * left):
                continue
            heapq.heapreplace(ends, end)
            chosen.append(run)
        return chosen, max(ends)
