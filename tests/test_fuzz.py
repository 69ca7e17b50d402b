"""Inputs that nobody would write by hand: hpt takes them, or refuses them by one of its own errors."""

import ast
import contextlib
import dataclasses
import functools
import json
import warnings

import nbformat
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from known_laws import noisy
from nbformat.v4 import new_code_cell, new_notebook
from papermill.translators import PythonTranslator

import hpt
from hpt import cli
from hpt.analysis.synthetic import Law
from hpt.config import field_types
from hpt.data.source import DataConfig
from hpt.data.synthetic import SyntheticSource
from hpt.errors import HptError
from hpt.exercises import Bets
from hpt.exercises.checking import told_of
from hpt.exercises.tasks import TASKS
from hpt.metrics.transfer import transfer_report
from hpt.model.transformer import ModelConfig
from hpt.notebooks.source import check_parameters
from hpt.parameterization.groups import param_groups
from hpt.runs.run_config import RunConfig, load_run
from hpt.runs.store import Store
from hpt.runs.train_config import TrainConfig
from hpt.study.profiles import load_profile, profile_names
from hpt.study.study import Study

FEW, MANY = 200, 10_000
ODD_NUMBERS = st.sampled_from(
    [0, -1, 1, 2, 3, 2**31, 2**63, 2**64, 10**400, 1e308, 5e-324, float("nan"), -0.0]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | ODD_NUMBERS
VALUES = st.recursive(
    LEAVES, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=3)
)


def fuzzed(*strategies, few=FEW):
    """A test run on some inputs, and by the marker ``fuzz`` on ten thousand."""

    def decorate(test):
        def run(count, *fixtures):
            checked = settings(
                max_examples=count,
                deadline=None,
                database=None,
                derandomize=count == few,
                suppress_health_check=list(HealthCheck),
                # To explain a failure takes minutes.
                phases=set(Phase) - {Phase.explain},
            )
            checked(given(st.tuples(*strategies))(lambda inputs: test(*fixtures, *inputs)))()

        def with_count(tmp_path, count):
            run(count, tmp_path)

        many = pytest.param(MANY, marks=[pytest.mark.fuzz, pytest.mark.timeout(0)])
        with_count.__name__ = test.__name__
        return pytest.mark.parametrize("count", [few, many])(with_count)

    return decorate


def fields(cls, **nested):
    """Values for a configuration: some fields odd, and now and then one that is not there."""
    names = [name for name in field_types(cls) if name not in nested]
    own = st.dictionaries(st.sampled_from(names) | st.text(max_size=4), VALUES, max_size=2)
    return st.builds(lambda odd, inner: inner | odd, own, st.fixed_dictionaries(nested))


RUNS = fields(
    RunConfig,
    model=fields(ModelConfig),
    data=fields(DataConfig),
    train=fields(TrainConfig, steps=VALUES | st.just(4)),
)


@fuzzed(RUNS | VALUES)
def test_configurations(tmp_path, values):
    with contextlib.suppress(HptError):
        run = RunConfig.from_dict(values)
        assert (
            RunConfig.from_dict(json.loads(json.dumps(run.to_dict()))) == run and len(run.run_id("x")) == 20
        )


@fuzzed(
    fields(
        Study, base=RUNS, log2_lrs=VALUES | st.dictionaries(st.integers(), st.lists(st.floats(), max_size=4))
    )
)
def test_studies(tmp_path, values):
    with contextlib.suppress(HptError):
        odd = {name: value for name, value in values.items() if name != "base" and name in field_types(Study)}
        study = dataclasses.replace(load_profile("smoke"), **odd)
        assert study.plan({})


SOURCES = st.fixed_dictionaries(
    {},
    optional={
        "exponent": ODD_NUMBERS | st.floats(0.1, 8),
        "classes": st.integers(1, 9),
        "order": st.integers(1, 9),
    },
)


@fuzzed(st.integers(2, 2**40), SOURCES)
def test_synthetic_sources(tmp_path, vocab_size, options):
    with contextlib.suppress(HptError):
        config = DataConfig(
            source="synthetic",
            vocab_size=vocab_size,
            zipf_exponent=options.get("exponent", 1.0),
            classes=options.get("classes", 2),
            order=options.get("order", 1),
        )
        if config.vocab_size < 1 << 12:
            SyntheticSource(vocab_size=config.vocab_size, classes=config.classes, order=config.order)


@fuzzed(
    st.binary(max_size=60)
    | st.text(max_size=60).map(lambda t: t.encode("utf-16"))
    | st.sampled_from(
        [b"smoke = 5", b"[smoke]\nbase = 3", b'smoke = "x"', b"[smoke.base]", b"[[smoke]]", b"[" * 5000]
    ),
    st.booleans(),
)
def test_files_of_profiles_and_runs(tmp_path, content, is_json):
    file = tmp_path / ("file.json" if is_json else "file.toml")
    file.write_bytes(content)
    for read in (profile_names, lambda file: load_profile("smoke", file), load_run):
        with contextlib.suppress(HptError):
            read(file)


COLUMNS = st.sampled_from(["width", "lr", "loss", "seed", "parameterization", "weight_decay", "log2_lr", "x"])
CELLS = st.sampled_from(
    [16, 32, 64, 0.01, 0.02, 0.04, 3.0, 3.1, 0, -1, float("nan"), float("inf"), None, "a", "64", 1e308]
)


@fuzzed(st.dictionaries(COLUMNS, st.lists(CELLS, min_size=9, max_size=9), max_size=6), few=60)
def test_tables(tmp_path, columns):
    with contextlib.suppress(HptError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transfer_report(pd.DataFrame(columns), bootstraps=10)


WORDS = st.sampled_from(
    [
        "study",
        "notebooks",
        "transfer",
        "wide",
        "--profile",
        "--width",
        "--csv",
        "--workers",
        "--target",
        "99",
        "-1",
        "nan",
    ]
) | st.text(st.characters(exclude_characters="\0"), max_size=6)  # a process is given no NUL


@fuzzed(st.lists(WORDS, max_size=5), few=60)
def test_the_command_line(tmp_path, words):
    # Neither a profile nor a folder of notebooks is there, so nothing is trained.
    environment = {"COLUMNS": "80"}
    words = [word for word in words if word not in ("-h", "--help")]
    if words[:1] in (["study"], ["notebooks"]):
        words += ["--profile", "none such"]
    done = CliRunner(env=environment).invoke(cli.main, words)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info


@fuzzed(VALUES, VALUES)
def test_rates_of_groups(tmp_path, lr, weight_decay):
    model = hpt.Transformer(hpt.ModelConfig(width=8, depth=1, d_head=8, vocab_size=4, context=4))
    with contextlib.suppress(HptError):
        assert param_groups(model, "sp+embd", lr=lr, weight_decay=weight_decay)


PARAMETERS = """profile = "quick"
smoke = True
steps = 10
lr = 1e-3
widths = [32, 64]
none = []
limit = None
"""
NAMES = st.sampled_from(["profile", "smoke", "steps", "lr", "widths", "none", "limit"]) | VALUES.filter(
    lambda value: not isinstance(value, list | dict)
)
TYPED = st.sampled_from(
    [
        "{[]: 1}",
        "(" * 300,
        "-" * 9999 + "1",
        "9" * 5000,
        "1_0",
        "[",
        "'",
        "\0",
        "\ud800",
        "a\n%cd /",
        "1e999",
        "[[1]]",
    ]
)


@fuzzed(NAMES, VALUES | TYPED)
def test_parameters_of_notebooks(tmp_path, name, value):
    notebook = tmp_path / "00_a.ipynb"
    if not notebook.exists():
        cell = new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
        nbformat.write(new_notebook(cells=[cell]), notebook)
    with contextlib.suppress(HptError):
        checked = check_parameters(notebook, {name: value})
        # What papermill puts in is that value and no code.
        (assigned,) = ast.parse(PythonTranslator.codify(checked, "")).body
        assert assigned.targets[0].id == name and ast.literal_eval(assigned.value) == checked[name]


@fuzzed(
    st.text(max_size=9) | st.sampled_from(["a =", "a = \0", "(" * 300, "a = " + "-" * 9999 + "1", "\ud800"])
)
def test_parameters_cells(tmp_path, cell):
    notebook = tmp_path / "00_a.ipynb"
    content = new_notebook(cells=[new_code_cell(cell, metadata={"tags": ["parameters"]})])
    notebook.write_text(json.dumps(content))
    with contextlib.suppress(HptError):
        check_parameters(notebook, {})


known_sweep = functools.cache(noisy)


@functools.cache
def small_report():
    return transfer_report(known_sweep(), bootstraps=20)


def placed(folder, value, **options):
    """A bet on a value, in a store of its own."""
    return Bets(folder / "store").place("a", value, **options)


#: Where a notebook's parameter goes: each takes a folder of its own and a value.
DOORS = {
    "profile": lambda folder, value: load_profile(value),
    "store": lambda folder, value: Store(f"{folder}/{value}" if isinstance(value, str) else value),
    "bets": lambda folder, value: Bets(
        f"{folder}/{value}" if isinstance(value, str) else value
    ).calibration(),
    "bet": placed,
    "choice": lambda folder, value: placed(folder, value, choices=["rises", "falls"]),
    "answer": lambda folder, value: told_of(TASKS["04.hidden"], lambda m: value),
    "bootstraps": lambda folder, value: transfer_report(known_sweep(), bootstraps=value),
    "scale": lambda folder, value: transfer_report(known_sweep(), scale=value, bootstraps=20),
    "table": lambda folder, value: transfer_report(value, bootstraps=20),
    "by": lambda folder, value: transfer_report(known_sweep(), by=value, bootstraps=20),
    "ignore": lambda folder, value: transfer_report(known_sweep(), ignore=value, bootstraps=20),
    "fix": lambda folder, value: transfer_report(known_sweep(), fix=value, bootstraps=20),
    "fixed": lambda folder, value: transfer_report(known_sweep(), fix={"seed": value}, bootstraps=20),
    "width": lambda folder, value: hpt.predict_lr(small_report(), width=value),
    "noise": lambda folder, value: hpt.synthetic_sweep(Law(), widths=(16, 32), count=3, noise=value),
}


@fuzzed(st.sampled_from(sorted(DOORS)), VALUES | TYPED)
def test_what_notebooks_make_of_their_parameters(tmp_path, door, value):
    # As papermill hands it over, where nobody checked it; so many replicates would only take their time.
    value = 20 if isinstance(value, int) and 20 < value <= 10**6 else value
    with contextlib.suppress(HptError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        DOORS[door](tmp_path, value)
