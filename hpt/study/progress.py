"""One progress line while a study runs; a line a run where nobody watches."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection, Sequence

from tqdm.auto import tqdm

from hpt.runs.result import RunResult
from hpt.runs.run_config import RunConfig
from hpt.study.cost import Cost, duration

#: The estimate beforehand counts as much as so many seconds of experience.
SECONDS_OF_TRUST = 60

#: A run, from a row of the table of results.
RUN = "{parameterization} width {width} log2 lr {log2_lr:g} seed {seed}"


def watched() -> bool:
    """Whether a person looks at the output: a terminal or a live notebook, and HPT_HEADLESS is not
    set."""
    if os.environ.get("HPT_HEADLESS"):
        return False
    ipython = sys.modules.get("IPython")
    return hasattr(ipython and ipython.get_ipython(), "kernel") or sys.stderr.isatty()


class Progress:
    """Shows runs done, left and diverged, and the time left.

    Parameters
    ----------
    name: of the study.
    cost: of the study; None shows nothing.
    """

    def __init__(self, name: str, cost: Cost | None):
        self.name = name
        self.cost = cost
        self.bar = None
        self.started = None
        self.first_result = None
        self.expected_since = 0.0
        self.done = self.left = 0

    def round(self, stored: Collection[RunResult], missing: Sequence[RunConfig]) -> None:
        """Say what is done and what is to run; called anew when results ask for more runs."""
        if self.cost is None:
            return
        more = len(stored) + len(missing) > self.done + self.left
        self.done = len(stored)
        self.left = len(missing)
        self.diverged = sum(result.diverged for result in stored)
        if self.started is None:
            self.started = time.perf_counter()
            self.expected_left = self.cost.seconds - self.cost.start_seconds
            self._say(str(self.cost))
        elif more:
            self.expected_left = max(self.expected_left, sum(map(self.cost.seconds_more, missing)))
            self._say(
                f"{self.name}: the results so far ask for {self.left} more runs "
                "(beyond an edge of the grid, or more seeds at the best)"
            )
        if not watched():
            return
        total = self.done + self.left
        if self.bar is None:
            self.bar = tqdm(
                desc=self.name,
                initial=self.done,
                total=total,
                dynamic_ncols=True,
                mininterval=1.0,
                bar_format="{desc} {bar} {n_fmt}/{total_fmt} [{elapsed}{postfix}]",
            )
        elif more:
            # A notebook's bar takes a new total by reset alone, which also forgets the time and the count.
            started = self.bar.start_t
            self.bar.reset(total)
            self.bar.start_t = started
            self.bar.n = self.done
            self.bar.refresh()

    def finished(self, result: RunResult) -> None:
        """Count one more run."""
        if self.cost is None:
            return
        self.done += 1
        self.left -= 1
        self.diverged += result.diverged
        left = duration(self._seconds_left(result.config))
        if self.bar is not None:
            postfix = f"{self.left} left, {self.diverged} diverged, about {left}"
            self.bar.set_postfix_str(postfix, refresh=False)
            self.bar.update(1)
            return
        outcome = "diverged" if result.diverged else f"loss {result.val_loss:.3f}"
        print(
            f"{self.name} {self.done}/{self.done + self.left}  {RUN.format(**result.row())}: {outcome}, "
            f"{result.seconds:.0f} s; {self.diverged} diverged, about {left} left",
            flush=True,
        )

    def _seconds_left(self, done):
        """The estimate of what is left, corrected by the pace since the first result."""
        now = time.perf_counter()
        expected = self.cost.seconds_more(done)
        self.expected_left -= expected
        if self.first_result is None:
            self.first_result = now
        else:
            self.expected_since += expected
        since = now - self.first_result
        pace = (SECONDS_OF_TRUST + since) / (SECONDS_OF_TRUST + self.expected_since)
        return max(self.expected_left * pace, 0.0)

    def close(self, missing: Sequence[RunConfig] = ()) -> None:
        """Leave the last state standing, and say what is missing where time was out."""
        if self.bar is not None:
            self.bar.close()
        if self.started is None:
            return
        took = duration(time.perf_counter() - self.started)
        runs = f"all {self.done} runs done"
        if missing:
            left = duration(sum(map(self.cost.seconds_more, missing)))
            runs = f"stopped in time with {self.done} runs done, {len(missing)} left, about {left}"
        self._say(f"{self.name}: {runs}, {self.diverged} diverged; this call took {took}")
        if missing:
            self._say(f"{self.name}: the same call goes on")

    def _say(self, line):
        tqdm.write(line) if watched() else print(line, flush=True)
