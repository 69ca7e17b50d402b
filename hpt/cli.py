"""The command line, ``hpt COMMAND`` or ``python -m hpt COMMAND``; `hpt --help` lists the
commands."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import shlex
import sys
import time
from pathlib import Path

import click
from click import argument, echo, option

# Wings are light; what a command names of them is loaded when it runs.
import hpt.notebooks
import hpt.parameterization
import hpt.plots
import hpt.runs
import hpt.study
from hpt.errors import HptError
from hpt.files import check_file, writing

FILE = click.Path(exists=True, dir_okay=False)
ABOVE_0 = click.FloatRange(0, min_open=True)

PROFILE = option("--profile", default="quick", help="Which study; `hpt profiles` lists them.")
STORE = option("--store", default="runs/store", help="Folder of run records, or its URL.")
DEVICE = option("--device", default="auto", help="auto, cpu, cuda, mps.")
WORKERS = option("--workers", type=click.IntRange(1), help="Processes; by default the best number.")
MINUTES = option("--minutes", type=ABOVE_0, help="Stop in time; the same command goes on.")
DRY_RUN = option("--dry-run", is_flag=True, help="Only say the cost: FLOPs, time, memory, disk.")


def trains_a_study(command):
    """Give a command the options of those that train."""
    for each in (DRY_RUN, MINUTES, WORKERS, DEVICE, STORE, PROFILE):
        command = each(command)
    return command


class _Group(click.Group):
    """Ends with a plain message where hpt knows what is wrong."""

    def invoke(self, context):
        try:
            return super().invoke(context)
        except HptError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt as stop:
            again = shlex.join(["hpt", *sys.argv[1:]])
            said = str(stop) or "interrupted; what is finished is kept."
            echo(f"{said} The same command goes on: {again}", err=True)
            context.exit(130)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="hpt")
def main() -> None:
    """Learn, replicate and use hyperparameter transfer."""
    # Says when text is tokenized, which takes a while once.
    logging.basicConfig(format="%(message)s")
    logging.getLogger("hpt").setLevel(logging.INFO)


@main.command()
@trains_a_study
@option("--executor", default="local", help="local, or ray: a Ray cluster.")
@option("--address", help="ray: HOST:PORT or auto; by default $RAY_ADDRESS, else a local cluster.")
@option("--gpus-per-job", type=float, help="ray: by default 1 on GPUs; a fraction shares one.")
@option("--csv", type=click.Path(dir_okay=False), help="Also write the table of runs to this file.")
@option("--adaptive", is_flag=True, help="Learning rates where they tell most, not the full grid.")
@option("--target", type=ABOVE_0, help="Adaptive: octaves that the 95 % interval of log2 η* may be wide.")
def study(profile, store, device, workers, minutes, dry_run, csv, adaptive, target, **cluster) -> None:
    """Train the runs of a profile that the store lacks, and print what transfers."""
    chosen = hpt.load_profile(profile)
    if adaptive or target:
        chosen = dataclasses.replace(chosen, search="adaptive", target=target or chosen.target)
    if dry_run:
        echo(chosen.cost(store, device=device, workers=workers))
        return
    if csv:
        check_file(Path(csv))
    table = chosen.run(store, device=device, workers=workers, minutes=minutes, **cluster)
    if csv:
        with writing(csv):
            table.to_csv(csv, index=False)
    if minutes and chosen.missing(store):
        _goes_on()
        return
    echo(hpt.transfer_report(table, loss_unit="nats"))


@main.command()
@argument("names", nargs=-1)
@trains_a_study
@option("--source", default="notebooks", help="Folder of the notebooks.")
@option("--out", help="Folder of the report; by default reports/PROFILE.")
@option("--again", is_flag=True, help="Execute unchanged notebooks too.")
@option("--verbose", is_flag=True, help="Show what the cells print, not a line a notebook alone.")
@option("-p", "--parameter", nargs=2, multiple=True, metavar="NAME VALUE", help="Set a notebook's parameter.")
def notebooks(names, profile, store, device, workers, dry_run, source, out, parameter, **options) -> None:
    """Train what is missing, execute the notebooks (all, or those whose NAMES begin so), write the
    report."""
    common = {"names": names, "device": device, "workers": workers}
    if dry_run:
        echo(hpt.notebooks.replication_cost(Path(source), profile, Path(store), **common))
        return
    index = hpt.notebooks.replicate(
        Path(source),
        profile,
        store,
        Path(out or f"reports/{profile}"),
        parameters=dict(parameter),
        **common,
        **options,
    )
    if index:
        echo(f"report: {index}")
    else:
        _goes_on()


def _goes_on():
    """Say by which command what was stopped in time goes on."""
    echo(f"to go on: {shlex.join(['hpt', *sys.argv[1:]])}")


@main.command()
@argument("table", type=FILE)
@option("--reference", help="The parameterization that R(∞) compares with; by default the best.")
@option("--width", type=ABOVE_0, help="Also predict the learning rate at this width (or other scale).")
@option("--scale", default="width", help="The column that grows.")
@option("--by", multiple=True, metavar="COLUMN", help="A further column that tells groups apart.")
@option("--fix", multiple=True, metavar="COLUMN=VALUE", help="Keep these rows; =last: a run's last.")
@option("--ignore", multiple=True, metavar="COLUMN", help="A column that may differ among repeats.")
@option("--lr", help="The column of the learning rate; known names are found.")
@option("--loss", help="The column of the loss; known names are found.")
@option("--loss-unit", help="nats, bits, perplexity, error, accuracy.")
@option(
    "--octaves",
    type=ABOVE_0,
    default=1.0,
    help="How far either way the interval of a determined log2 η* may reach.",
)
def transfer(table, width, by, fix, ignore, **options) -> None:
    """E, κ, R(∞) of your own sweep: a TABLE (CSV, JSON, Excel, Feather, Parquet, packed or not) with
    width, lr, loss, and more if you have it."""
    for part in fix:
        if "=" not in part:
            raise click.BadParameter(f"{part!r} has no '='", param_hint="--fix")
    kept = dict(part.split("=", 1) for part in fix)
    report = hpt.transfer_report(table, by=list(by), fix=kept, ignore=list(ignore), **options)
    echo(report)
    if width:
        echo(hpt.predict_lr(report, width=width).to_string(index=False))


@main.command()
@argument("config", type=FILE)
@STORE
@DEVICE
@option(
    "--shard",
    type=click.Choice(["ddp", "fsdp"]),
    default="ddp",
    help="ddp: the whole model in every process; fsdp: shared out.",
)
@option("--checkpoint", type=click.Path(file_okay=False), help="Folder for unfinished runs.")
@option("--every", type=click.IntRange(1), default=500, help="Steps between checkpoints.")
def wide(config, store, **options) -> None:
    """Train the run of a TOML or JSON file on all processes of a torchrun job, unless the store has
    it."""
    result = hpt.train_wide(hpt.runs.load_run(config), store=store, **options)
    if os.environ["RANK"] == "0":
        echo(
            f"run {result.run_id} on {result.device}: loss {result.val_loss:.4f} nats, "
            f"{result.seconds:.0f} s, in {store}"
        )


@main.command()
@argument("names", nargs=-1)
@PROFILE
@DEVICE
@WORKERS
@MINUTES
@option("--folder", help="Of the packed studies; by default runs/reference of the repository.")
def reference(names, profile, device, workers, minutes, folder) -> None:
    """Make the reference studies (all, or those with these NAMES), as far as they are not made."""
    ends = time.monotonic() + 60 * (minutes or math.inf)
    for name in names or hpt.study.reference_names():
        left = (ends - time.monotonic()) / 60
        if left <= 0:
            break
        options = {"folder": folder} if folder else {}
        options |= {"minutes": left if minutes else None, "device": device, "workers": workers}
        echo(hpt.study.make_reference(name, profile, **options))


@main.command()
@option("--out", default="docs/replication.md", help="The page, in Markdown.")
def replication(out) -> None:
    """Write what the reference studies say of the paper: docs/replication.md."""
    echo(hpt.notebooks.write_replication(Path(out)))


@main.command()
@option("--out", default="docs/play.html", help="The page, one HTML file.")
@option("--picture", default="docs/basins.svg", help="The picture of three basins.")
def play(out, picture) -> None:
    """Write the page to play with, of the reference studies of all sixteen and of the warm-up, and the
    README's picture."""
    check_file(Path(out))
    check_file(Path(picture))
    study = hpt.reference("sixteen")
    warmup = hpt.reference("warmup")
    others = [run for arm in ("8 steps", "120 steps") for run in warmup.arm(arm).results]
    echo(hpt.plots.write_play_page([*study.results, *others], out))
    three = study.table.query("parameterization in ['SP', 'SP+Embd', 'μP']")
    report = hpt.transfer_report(three, reference="μP", bootstraps=200)
    Path(picture).write_text(hpt.plots.figure_svg(hpt.plot_basins(report)), encoding="utf-8")


@main.command()
def profiles() -> None:
    """The profiles, with their runs and what they cost."""
    for name in hpt.study.profile_names():
        chosen = hpt.load_profile(name)
        runs = chosen.plan({})
        flops = sum(map(hpt.runs.run_flops, runs))
        how_long = f"`hpt study --profile {name} --dry-run` says how long here"
        if chosen.needs == "cuda":
            how_long = f"{hpt.study.duration(flops / 4e14)} at 400 TFLOP/s"
        echo(
            f"{name:8} {len(runs):4d} grid runs, "
            f"widths {min(chosen.widths)} to {max(chosen.widths)}, "
            f"{flops:.1e} training FLOPs ({how_long})"
        )


@main.command()
def parameterizations() -> None:
    """The sixteen parameterizations as a table."""
    from hpt.markdown import markdown_table

    echo(markdown_table(hpt.parameterization.sixteen_table().reset_index()))
