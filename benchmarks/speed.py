"""How fast hpt trains: the machine's ceilings, a plain baseline, and hpt, side by side in one run.

    python benchmarks/speed.py                    # a quarter of an hour; `make bench`
    python benchmarks/speed.py --widths 64 128 --repeats 5
    python benchmarks/speed.py --precision fp32   # as on a CPU without fast bf16 matmuls
    python benchmarks/speed.py --profile 512      # only where a compiled step of this width spends
    its time

The baseline (benchmarks/plain.py) trains one run after another on all cores; hpt trains as many at
once as it has workers. They take turns within seconds of each other, and every ratio is a median
over the turns. Writes runs/bench.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import multiprocessing
import os
import pickle
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pandas as pd
import torch
from plain import plain_run
from steps import elapsed, profile_step, time_step, time_threads

from hpt.cache_folder import cache_root
from hpt.data.source import DataConfig, load
from hpt.device import cores_here, pick_device, pick_precision
from hpt.model.transformer import flops_per_token
from hpt.runs.run_config import RunConfig, run_flops
from hpt.runs.store import Store
from hpt.study.executor_local import LocalExecutor
from hpt.study.plan import forecast
from hpt.study.profiles import load_profile
from hpt.study.study import Study
from hpt.study.worker import start_worker


def seconds(task, times: int = 5) -> float:
    """Median seconds of a call, after one that does not count."""
    task()
    return statistics.median(elapsed(task) for _ in range(times))


def ceilings() -> dict[str, float]:
    """GFLOP/s of a large matmul with one thread and with all, and GB/s of a copy (bytes read and
    written)."""
    found, threads = {}, torch.get_num_threads()
    for dtype, count in itertools.product((torch.float32, torch.bfloat16), (1, threads)):
        torch.set_num_threads(count)
        a = torch.randn(2048, 2048).to(dtype)
        name = f"{str(dtype).removeprefix('torch.')}_gflops_{'one_thread' if count == 1 else 'all_threads'}"
        found[name] = 2 * 2048**3 / seconds(lambda a=a: a @ a) / 1e9
    source = torch.ones(2**26)
    target = torch.empty_like(source)
    found["copy_gb_per_second"] = 2 * source.nbytes / seconds(lambda: target.copy_(source)) / 1e9
    return found


def at_width(base: RunConfig, width: int, vocabulary: int) -> RunConfig:
    return dataclasses.replace(
        base,
        data=DataConfig(source="synthetic", vocab_size=vocabulary),
        model=dataclasses.replace(base.model, width=width, vocab_size=vocabulary, d_head=min(32, width)),
    )


def steps_by_width(base: RunConfig, widths: list[int], vocabularies: list[int], steps: int) -> pd.DataFrame:
    """Tokens per second of the baseline and of hpt, and the step beside its matmuls, for each width
    and vocabulary."""
    rows, context = [], multiprocessing.get_context("spawn")
    workers = min(cores_here(), len(widths))
    for vocabulary, width in itertools.product(vocabularies, widths):
        config = at_width(base, width, vocabulary)
        with ProcessPoolExecutor(1, context, start_worker) as alone:
            row = alone.submit(time_step, config, steps).result()
            all_threads = alone.submit(time_threads, config, steps, workers).result()
        with ProcessPoolExecutor(workers, context, start_worker) as pool:
            together = [f.result() for f in [pool.submit(time_step, config, steps) for _ in range(workers)]]
            single = [
                f.result() for f in [pool.submit(time_threads, config, steps, 1) for _ in range(workers)]
            ]
        plain_seconds, _ = plain_run(config, load(config.data), steps)
        tokens = config.train.batch_size * config.model.context
        ours = sum(t["tokens_per_second"] for t in together)
        rows.append(
            {
                "vocabulary": vocabulary,
                "width": width,
                **row,
                "tokens_per_second": ours,
                "processes_over_threads": sum(single) / all_threads,
                "plain_tokens_per_second": tokens / plain_seconds,
                "ratio": ours * plain_seconds / tokens,
                "gflops": ours * flops_per_token(config.model) / 1e9,
                "flops_per_token": flops_per_token(config.model),
            }
        )
        print(
            f"vocabulary {vocabulary} width {width}: {ours:,.0f} tokens/s, "
            f"plain {tokens / plain_seconds:,.0f}, "
            f"step / matmuls {row['step_over_matmul']:.2f}, floor {row['floor_over_matmul']:.2f}",
            flush=True,
        )
    return pd.DataFrame(rows)


def programs_anew(folder: Path) -> None:
    """Have this process and its workers find the tokens that are there, and nothing that was
    compiled or timed."""
    (folder / "tokens").symlink_to(cache_root() / "tokens", target_is_directory=True)
    os.environ |= {"HPT_CACHE_DIR": str(folder), "TORCHINDUCTOR_CACHE_DIR": str(folder / "torch")}


def whole_study(study: Study, repeats: int) -> dict:
    """Seconds of the quick study, grid and seeds, the baseline's and hpt's, from whole runs of each
    width in turns.

    A whole run is all its steps and the validation. The baseline is charged its runs alone, hpt
    also the start of its workers and the making of its programs, as in the first study of these
    shapes; ``study_ratio_again`` is without the latter. All parameterizations cost the same.
    """
    now, later, _ = forecast(study, {})
    runs, data = [*now, *later], load(study.base.data)
    rows, losses, step = [], [], itertools.count()
    with tempfile.TemporaryDirectory() as folder:
        with LocalExecutor(Store(folder), compiled=False) as executor:
            start = time.perf_counter()
            executor.prepare(runs, runs)
            workers = executor.workers
            for future in [executor.submit(os.getpid) for _ in range(workers)]:
                future.result()
            started = time.perf_counter() - start
        with LocalExecutor(Store(folder)) as executor:
            compiled = elapsed(lambda: executor.prepare(runs, runs)) - started
            for turn, width in itertools.product(range(repeats), study.widths):
                middle = study.log2_lrs[width][len(study.log2_lrs[width]) // 2]
                count = 2 * workers  # so that, as in a study, no worker waits long for another
                configs = [
                    study.run_config(study.parameterizations[0], width, middle, seed=count * turn + i)
                    for i in range(count)
                ]
                start = time.perf_counter()
                ours = list(executor.run(configs))
                taken = (time.perf_counter() - start) / count
                start = time.perf_counter()
                _, plain_loss = plain_run(configs[0], data)
                rows.append((width, taken, time.perf_counter() - start))
                losses.append(next(r.val_loss for r in ours if r.config == configs[0]) - plain_loss)
                print(
                    f"quick, width {width}: a run takes {rows[-1][1]:.2f} s, plain {rows[-1][2]:.2f} s",
                    flush=True,
                )
    turns = pd.DataFrame(rows, columns=["width", "seconds", "plain_seconds"])
    counts = pd.Series([c.model.width for c in runs]).value_counts()
    totals = [
        sum(counts[w] * s for w, s in zip(turn["width"], turn[name], strict=True))
        for name, turn in itertools.product(
            ("seconds", "plain_seconds"),
            (turns.iloc[i : i + len(study.widths)] for i in range(0, len(turns), len(study.widths))),
        )
    ]
    ours, plain = totals[:repeats], totals[repeats:]
    first, again = (
        [p / (o + started + extra) for o, p in zip(ours, plain, strict=True)] for extra in (compiled, 0.0)
    )
    return {
        "study_ratio": statistics.median(first),
        "study_ratio_again": statistics.median(again),
        "study_ratios": first,
        "study_runs": len(runs),
        "workers": workers,
        "workers_why": executor.why,
        "start_seconds": started,
        "compile_seconds": compiled,
        "batch_seconds": seconds(
            lambda: data.batch(0, next(step), now[0].train.batch_size, now[0].model.context), times=100
        ),
        "runs_per_hour": 3600 * len(runs) / (statistics.median(ours) + started + compiled),
        "plain_runs_per_hour": 3600 * len(runs) / statistics.median(plain),
        "seconds_per_run": turns.groupby("width")["seconds"].median().to_dict(),
        "plain_seconds_per_run": turns.groupby("width")["plain_seconds"].median().to_dict(),
        "largest_loss_difference": max(map(abs, losses)),
        "study_flops": sum(map(run_flops, runs)),
    }


#: A study as somebody's script: file of the pickled study, folder of its store.
STUDY = """
import pathlib, pickle, sys, hpt
study = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())
print(hpt.transfer_report(study.run(sys.argv[2])))
"""


def outside_training(study: Study, workers: int) -> dict[str, float]:
    """Seconds of a whole study that is not a machine's first, from Python's start to the report's
    end, and what share
    of them is not in steps and validation: start, estimate, data, store, report."""
    with tempfile.TemporaryDirectory() as folder:
        study.cost(folder)  # leaves what any earlier study of these shapes leaves: the count of its memory
        pickled = Path(folder, "study.pickle")
        pickled.write_bytes(pickle.dumps(study))
        command = [sys.executable, "-c", STUDY, str(pickled), folder]
        seconds = elapsed(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))
        trained = sum(result.seconds for result in study.results(folder)) / workers
    return {"whole_study_seconds": seconds, "outside_share": 1 - trained / seconds}


def adaptive_search(seconds_per_run: dict[int, float], study_ratio: float, sweeps: int) -> dict:
    """The share of the grid's time that the adaptive search takes to the same interval of η*, on
    synthetic twins.

    An interval is taken to shrink as one over the root of the time spent.
    """
    from adaptive import compare, summary  # here, since workers import this file too as they start

    found = compare(sweeps, seed=1000)
    spent = found["runs"] * found["width"].map(seconds_per_run)
    seconds = spent.groupby(found["plan"]).sum()
    plans = summary(found)
    share = seconds["adaptive"] / seconds["grid"] * (plans.interval["adaptive"] / plans.interval["grid"]) ** 2
    return {
        "adaptive_ratio": study_ratio / share,
        "adaptive_seconds_share": share,
        "adaptive_plans": plans.reset_index().to_dict("records"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 64, 128, 256, 512])
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[1024, 8192])
    parser.add_argument("--steps", type=int, default=30, help="timed at each width")
    parser.add_argument("--repeats", type=int, default=3, help="turns of whole runs")
    parser.add_argument("--sweeps", type=int, default=24, help="synthetic sweeps of the adaptive search")
    parser.add_argument(
        "--precision", choices=["auto", "fp32", "bf16"], default="auto", help="of hpt's matmuls"
    )
    parser.add_argument(
        "--profile", type=int, help="profile the compiled step of this width, and nothing else"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/bench.json"))
    a = parser.parse_args()

    study = load_profile("quick")
    base = dataclasses.replace(study.base, train=dataclasses.replace(study.base.train, precision=a.precision))
    study = dataclasses.replace(study, base=base)
    dtype, reason = pick_precision(a.precision, pick_device("cpu"))
    machine = {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "system": platform.platform(terse=True),
        "precision": f"{str(dtype).removeprefix('torch.')}: {reason}",
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    print(machine, flush=True)
    load(base.data)  # the tokens, before anything is timed
    with tempfile.TemporaryDirectory() as folder:
        programs_anew(Path(folder))
        if a.profile:
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), start_worker) as alone:
                config = at_width(base, a.profile, a.vocabularies[0])
                print(alone.submit(profile_step, config).result().round(2).to_string())
            return
        result = {"machine": machine, "ceilings": ceilings(), **whole_study(study, a.repeats)}
        result |= outside_training(study, result["workers"])
        steps = steps_by_width(base, a.widths, a.vocabularies, a.steps)
    result |= adaptive_search(result["seconds_per_run"], result["study_ratio"], a.sweeps)
    result["gpu"] = on_a_gpu()
    first = steps[steps["vocabulary"] == a.vocabularies[0]].set_index("width")
    result["tokens_per_second"] = first["tokens_per_second"].to_dict()
    result["step_over_matmul"] = first["step_over_matmul"].to_dict()
    growth = first.iloc[-1] / first.iloc[0]
    result["time_per_token_growth"] = 1 / growth["tokens_per_second"]
    result["flops_per_token_growth"] = growth["flops_per_token"]
    result["by_width"] = steps.to_dict("records")
    a.out.parent.mkdir(parents=True, exist_ok=True)
    a.out.write_text(json.dumps(result, indent=1) + "\n")
    report(result, steps)
    print(f"written: {a.out}")


def on_a_gpu() -> list[dict]:
    """The table of benchmarks/gpu.py where there is a GPU, else nothing."""
    if not torch.cuda.is_available():
        print("no CUDA device: no row for a GPU")
        return []
    from gpu import TARGETS, speeds  # here, since workers import this file too as they start

    return speeds(TARGETS, torch.device("cuda"), float("inf"))


def cpu_name() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    names = (
        [line for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    amx = " with AMX" if torch.cpu.get_capabilities().get("amx_bf16", False) else ""
    return (names[0].partition(":")[2].strip() if names else platform.processor()) + amx


def report(result: dict, steps: pd.DataFrame) -> None:
    """Print what people compare."""
    one = result["ceilings"]["bfloat16_gflops_one_thread"]
    table = steps.assign(share=steps["gflops"] / (one * result["workers"]))
    columns = [
        "vocabulary",
        "width",
        "tokens_per_second",
        "plain_tokens_per_second",
        "ratio",
        "gflops",
        "share",
        "step_over_matmul",
        "floor_over_matmul",
        "eager_over_matmul",
        "processes_over_threads",
    ]
    print(pd.Series(result["ceilings"]).round(0).to_string())
    print(table[columns].round(2).to_string(index=False))
    print(
        f"quick study, {result['study_runs']} runs: {result['runs_per_hour']:.0f} runs an hour, "
        f"plain {result['plain_runs_per_hour']:.0f}: "
        f"ratio {result['study_ratio']:.2f} with the programs made first, "
        f"{result['study_ratio_again']:.2f} once they are there; "
        f"to the same interval of the optimum by adaptive search {result['adaptive_ratio']:.2f}"
    )
    print(
        f"a whole quick study: {result['whole_study_seconds']:.0f} s, "
        f"of which {result['outside_share']:.1%} are not training"
    )
    print(pd.DataFrame(result["adaptive_plans"]).round(3).to_string(index=False))
    print(f"{result['workers_why']}; a batch of its text takes {1000 * result['batch_seconds']:.2f} ms")
    print(f"losses of hpt and the baseline differ by at most {result['largest_loss_difference']:.3f} nats")


if __name__ == "__main__":
    main()
