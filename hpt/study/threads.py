"""How many threads each run gets on a CPU: timed in the workers, for every width, so that the study
ends soonest."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Mapping, Sequence

import torch

from hpt.cache_folder import kept
from hpt.config import to_dict
from hpt.runs.run_config import RunConfig, run_flops, run_steps
from hpt.study.timing import Workers, at_once, calibrate, shape_of
from hpt.training.memory import SHARE, available_bytes, step_bytes

#: A step of fewer FLOPs takes one thread: it has too little between two waits of its threads for each other.
FLOPS_TO_SHARE = 1e9
#: More threads have to end the study sooner by this factor: two timings of one thing differ by less.
GAIN = 1.1
#: Seconds of steps that are timed for each number of threads.
SECONDS = 0.6


def choose_threads(
    workers: Workers, configs: Sequence[RunConfig]
) -> tuple[dict[RunConfig, int], str]:
    """Threads of a run of each shape, and the reason in words.

    A core does most with a run of its own. A run gets several where the study has few runs for the
    cores, where so many runs at once do not fit into memory, and where the machine, as timed here,
    does better that way.

    Parameters
    ----------
    workers: the processes, where steps are timed.
    configs: all runs of the study, as far as can be told beforehand: then a run's bits do not hang
        on how much of the study was done before. For the same reason what was found is kept in
        ``$HPT_CACHE_DIR/threads``.
    """
    shapes = sorted(dict.fromkeys(map(shape_of, configs)), key=run_flops, reverse=True)
    found, large = dict.fromkeys(shapes, 1), [s for s in shapes if run_flops(s) >= FLOPS_TO_SHARE]
    if workers.cores == 1 or not large:
        return found, "one thread a run"
    counts = kept(
        "threads",
        _all_it_depends_on(workers, configs),
        lambda: list(_fastest(workers, configs, shapes, large).values()),
    )
    found = dict(zip(shapes, counts, strict=True))
    widths = {
        t: sorted({s.model.width for s in shapes if found[s] == t}) for t in sorted(set(counts))
    }
    said = ", ".join(f"{t} at width {', '.join(map(str, at))}" for t, at in widths.items())
    return found, f"threads a run, as timed here: {said}"


def _fastest(
    workers: Workers,
    configs: Sequence[RunConfig],
    shapes: Sequence[RunConfig],
    large: Sequence[RunConfig],
) -> dict[RunConfig, int]:
    """Threads for each shape: the largest first, and more for as long as the whole study gains by
    them."""
    counts, room, base, timed = [1], SHARE * available_bytes(torch.device("cpu")), 0, {}
    while 2 * counts[-1] <= workers.cores:
        counts.append(2 * counts[-1])

    def fits(shape: RunConfig, t: int) -> bool:
        return at_once(workers, t) * (base + step_bytes(shape, torch.device("cpu"))) < room

    for t in counts:
        timed[t] = calibrate(
            workers, [s for s in (shapes if t == 1 else large) if fits(s, t)], t, SECONDS
        )
    base = timed[1].base_bytes

    def seconds(threads: Mapping[RunConfig, int]) -> float:
        return wall_seconds(
            [(timed[t].run_seconds(c), t) for c in configs for t in [threads[shape_of(c)]]],
            workers.cores,
        )

    found = {s: next((t for t in counts if fits(s, t)), counts[-1]) for s in shapes}
    least = seconds(found)
    for shape in large:
        for t in counts[counts.index(found[shape]) + 1 :]:
            tried = {**found, shape: t}
            if (now := seconds(tried)) * GAIN < least:
                found, least = tried, now
    return found


def _all_it_depends_on(workers: Workers, configs: Sequence[RunConfig]) -> list:
    """The runs' shapes and steps, the cores, the processor and torch."""
    runs = Counter(
        (json.dumps(to_dict(shape_of(c)), sort_keys=True), run_steps(c)) for c in configs
    )
    return [
        sorted(runs.items()),
        workers.cores,
        str(torch.cpu.get_capabilities()),
        torch.__version__,
    ]


def wall_seconds(runs: Sequence[tuple[float, int]], cores: int) -> float:
    """When the last of these runs, (seconds, threads) each, ends: the longest first, each as its
    cores are free."""
    now, free, running = 0.0, cores, []
    for seconds, threads in sorted(runs, reverse=True):
        while free < threads:
            now, back = heapq.heappop(running)
            free += back
        heapq.heappush(running, (now + seconds, threads))
        free -= threads
    return max((end for end, _ in running), default=0.0)
