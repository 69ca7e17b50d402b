"""The command line, ``hpt COMMAND`` or ``python -m hpt COMMAND``; `hpt --help` lists the
commands."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from pathlib import Path

import click

from hpt.errors import HptError

STORE = click.option(
    "--store", default="runs/store", show_default=True, help="Folder of run records, or its URL."
)
PROFILE = click.option(
    "--profile", default="quick", show_default=True, help="Which study; `hpt profiles` lists them."
)
DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, mps.")
DRY_RUN = click.option(
    "--dry-run", is_flag=True, help="Only say what it costs: FLOPs, time, memory, disk."
)
WORKERS = click.option(
    "--workers", type=click.IntRange(1), help="Processes; by default as many as serve best."
)


class _Group(click.Group):
    """Ends with a plain message where hpt knows what is wrong."""

    def invoke(self, context: click.Context):
        try:
            return super().invoke(context)
        except HptError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hpt")
def main() -> None:
    """Learn, replicate and use hyperparameter transfer."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("hpt").setLevel(
        logging.INFO
    )  # says when text is tokenized, which takes a while once


@main.command()
@PROFILE
@STORE
@DEVICE
@WORKERS
@click.option(
    "--executor", default="local", show_default=True, help="local, or ray: a Ray cluster."
)
@click.option(
    "--address", help="ray: the cluster, HOST:PORT or auto; by default $RAY_ADDRESS, else local."
)
@click.option(
    "--gpus-per-job",
    type=float,
    help="ray: a fraction lets jobs share a GPU.  [default: 1 on GPUs]",
)
@DRY_RUN
@click.option(
    "--csv", type=click.Path(dir_okay=False), help="Also write the table of runs to this file."
)
@click.option(
    "--adaptive",
    is_flag=True,
    help="Place learning rates where they tell most, in place of the full grid.",
)
@click.option(
    "--target",
    type=click.FloatRange(0, min_open=True),
    help="Adaptive: octaves that the 95 % interval of log2 η* may be wide.",
)
def study(
    profile: str,
    store: str,
    device: str,
    workers: int | None,
    executor: str,
    address: str | None,
    gpus_per_job: float | None,
    dry_run: bool,
    csv: str | None,
    adaptive: bool,
    target: float | None,
) -> None:
    """Train the runs of a profile that the store lacks, and print what transfers."""
    from hpt.metrics.transfer import transfer_report
    from hpt.study.profiles import load_profile

    chosen = load_profile(profile)
    if adaptive or target:
        chosen = dataclasses.replace(chosen, search="adaptive", target=target or chosen.target)
    if dry_run:
        return click.echo(str(chosen.cost(store, device=device, workers=workers)))
    table = chosen.run(
        store,
        executor=executor,
        device=device,
        workers=workers,
        address=address,
        gpus_per_job=gpus_per_job,
    )
    if csv:
        table.to_csv(csv, index=False)
    click.echo(str(transfer_report(table)))


@main.command()
@click.argument("names", nargs=-1)
@PROFILE
@STORE
@DEVICE
@WORKERS
@DRY_RUN
@click.option("--source", default="notebooks", show_default=True, help="Folder of the notebooks.")
@click.option("--out", help="Folder of the report; by default reports/PROFILE.")
@click.option("--again", is_flag=True, help="Execute unchanged notebooks too.")
@click.option(
    "-p",
    "--parameter",
    nargs=2,
    multiple=True,
    metavar="NAME VALUE",
    help="Set a notebook's parameter.",
)
def notebooks(
    names: tuple[str, ...],
    profile: str,
    store: str,
    device: str,
    workers: int | None,
    dry_run: bool,
    source: str,
    out: str | None,
    again: bool,
    parameter: tuple[tuple[str, str], ...],
) -> None:
    """Train what is missing, execute the notebooks (all, or those whose NAMES begin so), write the
    report."""
    from hpt.notebooks.main_job import replicate
    from hpt.study.profiles import load_profile

    if dry_run:
        click.echo(str(load_profile(profile).cost(store, device=device, workers=workers)))
        return click.echo("then the notebooks are executed, which trains nothing more")
    index = replicate(
        Path(source),
        profile,
        Path(store),
        Path(out or f"reports/{profile}"),
        names=names,
        device=device,
        workers=workers,
        parameters=dict(parameter),
        again=again,
    )
    click.echo(f"report: {index}")


@main.command()
@click.argument("table", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--reference", help="The parameterization that R(∞) compares with; by default the best."
)
@click.option("--width", type=float, help="Also predict the learning rate at this width.")
def transfer(table: str, reference: str | None, width: float | None) -> None:
    """E, κ, R(∞) of your own sweep: a CSV or Parquet TABLE with width, lr, loss, and more if you
    have it."""
    from hpt.analysis.predict import predict_lr
    from hpt.metrics.transfer import transfer_report

    report = transfer_report(table, reference=reference)
    click.echo(str(report))
    if width:
        click.echo(predict_lr(report, width=width).to_string(index=False))


@main.command()
@click.argument("config", type=click.Path(exists=True, dir_okay=False))
@STORE
@DEVICE
@click.option(
    "--shard",
    type=click.Choice(["ddp", "fsdp"]),
    default="ddp",
    show_default=True,
    help="ddp: the whole model in every process; fsdp: shared out.",
)
@click.option(
    "--checkpoint",
    type=click.Path(file_okay=False),
    help="Folder for the states of unfinished runs.",
)
@click.option(
    "--every",
    type=click.IntRange(1),
    default=500,
    show_default=True,
    help="Steps between checkpoints.",
)
def wide(
    config: str, store: str, device: str, shard: str, checkpoint: str | None, every: int
) -> None:
    """Train the run of a TOML or JSON file on all processes of a torchrun job, unless the store has
    it."""
    from hpt.runs.run_config import load_run
    from hpt.training.distributed import train_wide

    result = train_wide(
        load_run(config),
        device=device,
        shard=shard,
        store=store,
        checkpoint=checkpoint,
        every=every,
    )
    if os.environ["RANK"] == "0":
        click.echo(
            f"run {result.run_id} on {result.device}: loss {result.val_loss:.4f} nats, {result.seconds:.0f} s, "
            f"in {store}"
        )


@main.command()
def profiles() -> None:
    """The profiles, with their runs and what they cost."""
    from hpt.runs.run_config import run_flops
    from hpt.study.cost import duration
    from hpt.study.profiles import load_profile, profile_names

    for name in profile_names():
        chosen = load_profile(name)
        runs = chosen.plan({})
        click.echo(
            f"{name:8} {len(runs):4d} grid runs, widths {min(chosen.widths)} to {max(chosen.widths)}, "
            f"{sum(map(run_flops, runs)):.1e} training FLOPs "
            f"({duration(sum(map(run_flops, runs)) / 4e14)} at 400 TFLOP/s)"
        )


@main.command()
def parameterizations() -> None:
    """The sixteen parameterizations as a table."""
    from hpt.parameterization.sixteen import markdown_table

    click.echo(markdown_table())


if __name__ == "__main__":
    sys.exit(main())
