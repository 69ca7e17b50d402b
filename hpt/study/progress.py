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
        self.name, self.cost = name, cost
        self.bar: tqdm | None = None
        self.done = self.left = self.diverged = 0
        self.expected_left = self.expected_done = 0.0
        self.started: float | None = None
        self.first: tuple[float, float] | None = None

    def round(self, stored: Collection[RunResult], missing: Sequence[RunConfig]) -> None:
        """Say what is done and what is to run; called anew when results ask for more runs."""
        if self.cost is None:
            return
        self.done, self.diverged, self.left = (
            len(stored),
            sum(r.diverged for r in stored),
            len(missing),
        )
        if self.started is None:
            self.started = time.perf_counter()
            self.expected_left = self.cost.seconds - self.cost.start_seconds
            self._say(str(self.cost))
        else:
            self.expected_left = max(self.expected_left, sum(map(self.cost.seconds_more, missing)))
            self._say(
                f"{self.name}: the results so far ask for {self.left} more runs "
                "(beyond an edge of the grid, or more seeds at the best)"
            )
        if watched():
            self.bar = self.bar or tqdm(
                desc=self.name,
                initial=self.done,
                dynamic_ncols=True,
                mininterval=1.0,
                bar_format="{desc} {bar} {n_fmt}/{total_fmt} [{elapsed}{postfix}]",
            )
            self.bar.total = self.done + self.left
            self.bar.refresh()

    def finished(self, result: RunResult) -> None:
        """Count one more run."""
        if self.cost is None:
            return
        seconds = self.cost.seconds_more(result.config)
        self.done, self.left, self.diverged = (
            self.done + 1,
            self.left - 1,
            self.diverged + result.diverged,
        )
        self.expected_done, self.expected_left = (
            self.expected_done + seconds,
            self.expected_left - seconds,
        )
        now = time.perf_counter()
        self.first = self.first or (now, self.expected_done)
        # The first guess, as good as a minute of experience, is corrected by the pace since the
        # first result.
        since, known = now - self.first[0], self.expected_done - self.first[1]
        left = duration(max(self.expected_left * (60 + since) / (60 + known), 0.0))
        if self.bar is not None:
            self.bar.set_postfix_str(
                f"{self.left} left, {self.diverged} diverged, about {left}", refresh=False
            )
            self.bar.update(1)
            return
        row = result.row()
        loss = "diverged" if result.diverged else f"loss {result.val_loss:.3f}"
        print(
            f"{self.name} {self.done}/{self.done + self.left}  {row['parameterization']} width {row['width']} "
            f"log2 lr {row['log2_lr']:g} seed {row['seed']}: {loss}, {result.seconds:.0f} s; "
            f"{self.diverged} diverged, about {left} left",
            flush=True,
        )

    def close(self) -> None:
        """Leave the last state standing."""
        if self.bar is not None:
            self.bar.close()
        if self.started is not None:
            took = duration(time.perf_counter() - self.started)
            self._say(
                f"{self.name}: all {self.done} runs done, {self.diverged} diverged; this call took {took}"
            )

    def _say(self, line: str) -> None:
        tqdm.write(line) if watched() else print(line, flush=True)
