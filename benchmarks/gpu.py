"""Whether hpt trains rightly and fast on this GPU: checks, then tokens a second beside the plain baseline.

    python benchmarks/gpu.py                # a table, within four minutes
    python benchmarks/gpu.py --only checks  # or: speed
    python benchmarks/gpu.py --dry          # on the CPU, on small sizes: that all of it can be run

On a GPU each check is a process, and so is each shape whose programs are to be made, and the baseline's: they
run side by side, as a program takes one core a minute or two and the GPU nothing. Then the shapes are timed,
one after another.

The baseline is benchmarks/plain.py under bf16 autocast and torch.compile, one run at a time. The tests
marked gpu make the same checks.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from plain import PlainGPT

import hpt
from hpt.data.source import DataConfig, load
from hpt.model.transformer import ModelConfig, flops_per_token
from hpt.runs.run_config import RunConfig
from hpt.runs.store import Store
from hpt.runs.train_config import TrainConfig
from hpt.study.study import Study
from hpt.training.compiled import try_to_compile
from hpt.training.loop import Training

#: Multiplications and additions of bf16 matrices a second, dense, as the vendor gives them.
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
TINY = RunConfig(
    model=ModelConfig(width=64, depth=2, d_head=32, vocab_size=256, context=64),
    data=DataConfig(source="synthetic", vocab_size=256),
    train=TrainConfig(lr=2.0**-7, steps=60, warmup_steps=4, validation_sequences=32, precision="fp32"),
)


def changed(run: RunConfig, seed: int = 0, **values) -> RunConfig:
    return dataclasses.replace(run, seed=seed, train=dataclasses.replace(run.train, **values))


def close(results, expected, rtol: float) -> None:
    for ours, theirs in zip(results, expected, strict=True):
        np.testing.assert_allclose(ours.train_loss, theirs.train_loss, rtol=rtol)
        np.testing.assert_allclose(ours.val_loss, theirs.val_loss, rtol=rtol)


#: Whether a step is compiled.
WAYS = (False, True)
RUNS = [changed(TINY, lr=2.0**-7), changed(TINY, lr=2.0**-8, seed=1), changed(TINY, lr=2.0**-9, seed=2)]


def one_by_one_is_stacked_is_the_cpu(device: str) -> None:
    """In fp32, whose matmuls differ in rounding."""
    alone = [hpt.train(run, device=device) for run in RUNS]
    close(hpt.train_stacked(RUNS, device=device), alone, 2e-4)
    close(alone, [hpt.train(run, device="cpu") for run in RUNS], 1e-3)


def in_bf16_to_its_rounding(device: str) -> None:
    runs = [changed(run, run.seed, precision="bf16") for run in RUNS]
    close(hpt.train_stacked(runs, device=device), [hpt.train(run, device=device) for run in RUNS], 0.02)


def compiled_is_eager(device: str) -> None:
    alone = [hpt.train(run, device=device) for run in RUNS]
    close([hpt.train_compiled(RUNS[0], device=device)], alone[:1], 2e-4)
    close(hpt.train_stacked(RUNS, device=device, compiled=True), alone, 2e-4)


def who_diverges_disturbs_nobody(device: str) -> None:
    bad = changed(TINY, lr=1e6, seed=3)
    for compiled in WAYS:
        *good, worst = hpt.train_stacked([*RUNS, bad], device=device, compiled=compiled)
        assert worst.diverged and not any(result.diverged for result in good)
        close(good, [hpt.train(run, device=device) for run in RUNS], 2e-4)


def a_full_memory_halves_a_stack(device: str) -> None:
    advance = Training.advance

    def small(self, until):
        if len(self.configs) > 2:
            # A real one where there is a GPU: more than it has.
            torch.empty(2**50, device=device) if device == "cuda" else _full()
        advance(self, until)

    Training.advance = small
    try:
        results = hpt.train_stacked(RUNS, device=device)
    finally:
        Training.advance = advance
    assert sorted(result.stacked for result in results) == [1, 2, 2]


def _full():
    raise torch.OutOfMemoryError


def small_study() -> Study:
    """Three shapes, two seeds."""
    return Study(
        name="gpu",
        base=TINY,
        parameterizations=("SP", "μP"),
        log2_lrs={32: (-9, -8, -7), 64: (-9, -8, -7), 128: (-9, -8, -7)},
        seeds=2,
        best_seeds=2,
        extend=0,
    )


def a_study_over_three_shapes(device: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = small_study().run(folder, device=device, quiet=True)
    assert len(table) == 36 and np.isfinite(table["loss"]).all()


#: A study as somebody's script: device, folder of its store.
STUDY = """
import sys, gpu
if __name__ == "__main__":
    gpu.small_study().run(sys.argv[2], device=sys.argv[1], quiet=True)
"""


def killed_a_study_goes_on(device: str) -> None:
    """kill -9 once some records are there; the same command makes the others, and those stay."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "study.py")
        script.write_text(STUDY)
        store = Path(folder, "store")
        command = [sys.executable, str(script), device, str(store)]
        env = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
        first = subprocess.Popen(command, env=env, start_new_session=True)
        while first.poll() is None and len(list(store.glob("records/*"))) < 3:
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        before = {path: path.stat().st_mtime_ns for path in store.glob("records/*")}
        subprocess.run(command, env=env, check=True)
        assert len(list(Store(store).run_ids())) == 36
        assert all(path.stat().st_mtime_ns == at for path, at in before.items())


def every_notebook_runs(device: str) -> None:
    """Those of profile smoke."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "hpt", "notebooks", "--profile", "smoke"]
        options = ["--out", folder, "--store", f"{folder}/runs"]
        subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)


CHECKS = (
    one_by_one_is_stacked_is_the_cpu,
    in_bf16_to_its_rounding,
    compiled_is_eager,
    who_diverges_disturbs_nobody,
    a_full_memory_halves_a_stack,
    a_study_over_three_shapes,
    killed_a_study_goes_on,
    every_notebook_runs,
)


class Target(NamedTuple):
    """A shape, and how many times the baseline's tokens a second are wanted of so many members."""

    width: int
    members: int
    depth: int
    d_head: int
    vocabulary: int
    context: int
    batch: int
    ratio: float
    micro_batch: int | None = None

    def config(self) -> RunConfig:
        """Its run."""
        data = DataConfig(source="synthetic", vocab_size=self.vocabulary)
        model = ModelConfig(
            width=self.width,
            depth=self.depth,
            d_head=self.d_head,
            vocab_size=self.vocabulary,
            context=self.context,
        )
        sizes = {"batch_size": self.batch, "micro_batch_size": self.micro_batch}
        train = TrainConfig(lr=2.0**-12, steps=10**4, loss_bound=1e30, **sizes)
        return RunConfig(model=model, data=data, train=train)


TARGETS = (
    Target(64, 28, 3, 32, 1024, 64, 16, 100),
    Target(256, 28, 3, 32, 1024, 64, 16, 25),
    Target(512, 4, 6, 64, 8192, 256, 64, 1.1),
    Target(1024, 1, 6, 64, 8192, 256, 64, 1.0),
    Target(2048, 1, 12, 128, 50304, 1024, 32, 1.0, micro_batch=16),
)


#: What timing all shapes takes, once their programs are made: 15 s each on an H100.
SECONDS_TO_TIME = 90

#: For a machine without a GPU.
SMALL = (Target(16, 3, 1, 8, 64, 16, 4, 1.0, micro_batch=2), Target(32, 1, 1, 8, 64, 16, 4, 1.0))


def plain_speed(config: RunConfig, device: torch.device, steps: int) -> float:
    """Tokens a second of the baseline under bf16 autocast, compiled where there is a GPU."""
    c = config.train
    with device:
        # As fast with any weights, and drawn there in no time.
        model = PlainGPT(config.model)
    forward = torch.compile(model) if device.type == "cuda" else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=c.lr, fused=True)
    size = c.micro_batch_size or c.batch_size
    batch = [x.to(device) for x in load(config.data).batch(0, 0, c.batch_size, config.model.context)]

    def step():
        for x, y in zip(*(ids.split(size) for ids in batch), strict=True):
            with torch.autocast(device.type, torch.bfloat16):
                loss = forward(x, y) * (size / c.batch_size)
            loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(3):
        step()
    return _tokens_per_second(config, steps, device, lambda: [step() for _ in range(steps)])


def hpt_speed(target: Target, device: torch.device, steps: int, compiled: bool) -> float:
    """Tokens a second of all members together."""
    config = target.config()
    runs = [changed(config, lr=2.0 ** -(12 + i / 10)) for i in range(target.members)]
    with contextlib.closing(Training(runs, load(config.data), device, compiled)) as run:
        run.advance(8)
        taken = _tokens_per_second(config, steps, device, lambda: run.advance(8 + steps))
    return target.members * taken


def _tokens_per_second(config, steps, device, task):
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    task()
    wait()
    return steps * config.train.batch_size * config.model.context / (time.perf_counter() - start)


def speeds(targets, device: torch.device, end: float, steps: int = 40) -> list[dict]:
    """A row a target, as far as the time goes."""
    rows = []
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    peak = next((flops for card, flops in PEAK_FLOPS.items() if card in name), float("nan"))
    for target in targets:
        if time.monotonic() > end:
            print(f"width {target.width}: not run, no time is left")
            continue
        try:
            row = _row(target, device, steps, peak)
        except Exception:
            # The other rows are worth having.
            print(f"width {target.width}: FAILED\n{traceback.format_exc()}", flush=True)
            continue
        rows.append(row)
        print("  ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)
    return rows


def _row(target, device, steps, peak):
    config = target.config()
    plain = plain_speed(config, device, steps)
    ours = hpt_speed(target, device, steps, device.type == "cuda")
    return {
        "width": target.width,
        "members": target.members,
        "tokens_per_second": ours,
        "plain": plain,
        "ratio": ours / plain,
        "wanted": target.ratio,
        "share_of_peak": ours * flops_per_token(config.model) / peak,
    }


def checks(device: str, of=CHECKS) -> int:
    """Make them; how many failed."""
    # Small steps on a CPU: many threads stand in each other's way.
    torch.set_num_threads(1)
    failed = 0
    for check in of:
        start = time.perf_counter()
        try:
            check(device)
            said = "holds"
        except Exception:
            failed += 1
            said = "FAILED\n" + traceback.format_exc()
        print(
            f"{check.__name__.replace('_', ' '):45s} {time.perf_counter() - start:5.1f} s  {said}", flush=True
        )
    return failed


def prepare(target: Target) -> None:
    """Have the programs of a shape ready on disk."""
    failure = try_to_compile([target.config()] * target.members, "cuda", target.members > 1)
    print(f"width {target.width}: programs {failure or 'made'}")


def side_by_side(parts: list[str], end: float) -> int:
    """Run parts of this script, each in a process that ends in time, and print what each says; how many
    failed."""
    with tempfile.TemporaryDirectory() as folder:
        logs = {part: Path(folder, str(i)) for i, part in enumerate(parts)}
        started = {}
        for part, log in logs.items():
            with log.open("w") as said:
                command = [sys.executable, __file__, "--part", part]
                started[part] = subprocess.Popen(command, stdout=said, stderr=said)
        failed = 0
        for part, process in started.items():
            try:
                failed += process.wait(max(end - time.monotonic(), 1)) != 0
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                failed += 1
                print(f"{part}: no time was left")
            print(logs[part].read_text().rstrip(), flush=True)
    return failed


def run_part(name: str) -> int:
    """A check, or the programs of a width, hpt's or the baseline's; how many failed."""
    kind, _, width = name.partition(" ")
    if width:
        target = next(target for target in TARGETS if target.width == int(width))
        if kind == "plain":
            plain_speed(target.config(), torch.device("cuda"), 1)
        else:
            prepare(target)
        return 0
    return checks("cuda", [check for check in CHECKS if check.__name__ == name])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=["checks", "speed"])
    parser.add_argument("--minutes", type=float, default=4)
    parser.add_argument("--dry", action="store_true")
    parser.add_argument(
        "--part", help='one check by its name, "width 64" or "plain 64": the programs of a width'
    )
    a = parser.parse_args()
    end = time.monotonic() + 60 * a.minutes
    if a.dry:
        sys.exit(dry_run(a.only, end))
    if not torch.cuda.is_available():
        sys.exit("there is no CUDA device here; --dry goes without")
    if a.part:
        sys.exit(run_part(a.part))
    print(torch.cuda.get_device_name(), "torch", torch.__version__, flush=True)
    # The longest first.
    shapes = TARGETS[::-1] if a.only != "checks" else []
    parts = [f"{kind} {target.width}" for target in shapes for kind in ("width", "plain")]
    parts += [check.__name__ for check in CHECKS] if a.only != "speed" else []
    failed = side_by_side(parts, end - SECONDS_TO_TIME)
    if a.only != "checks":
        failed += len(TARGETS) - len(speeds(TARGETS, torch.device("cuda"), end - 20))
    sys.exit(failed)


def dry_run(only: str | None, end: float) -> int:
    """All but the notebooks, which tests run on CPUs; how much failed."""
    rows = SMALL if only == "checks" else speeds(SMALL, torch.device("cpu"), end)
    failed = 0 if only == "speed" else checks("cpu", CHECKS[:-1])
    return failed + len(SMALL) - len(rows)


if __name__ == "__main__":
    main()
