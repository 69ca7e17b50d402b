"""The main job, whole, on the smoke profile and real text."""

from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.cli import main
from hpt.exercises.bets import Bets
from hpt.metrics.transfer import transfer_report
from hpt.notebooks import main_job
from hpt.notebooks.main_job import opening, summary_tables
from hpt.notebooks.pages import external_references

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def sweep():
    """Three parameterizations of a known law, of which SP lies highest."""
    laws = {"SP": Law(L_inf=2.6), "SP+Embd": Law(L_inf=2.55), "μP": Law()}
    return synthetic_sweep(laws, widths=(32, 64, 128), count=7).assign(weight_decay=0.0)


def test_summary_tables_have_each_figure_with_its_interval(sweep):
    report = transfer_report(sweep, reference="μP", bootstraps=50)
    optima, shares, metrics = summary_tables(report).values()
    assert list(optima)[:5] == ["parameterization", "width", "log2_lr", "log2_lr_low", "log2_lr_high"]
    assert len(optima) == 9 and "weight_decay" not in optima and "curvature" not in optima
    assert list(shares)[:4] == ["width", "share", "share_low", "share_high"] and len(shares) == 3
    assert {"E", "E_low", "E_determined", "kappa_reason", "R_high"} <= set(metrics)
    assert not {"alpha", "R_method"} & set(metrics)


def test_the_opening_is_a_picture_for_either_screen_and_the_price_at_the_largest_width(sweep):
    parts = opening(transfer_report(sweep, reference="μP", bootstraps=50))
    assert {name: text.count("<svg") for name, text in parts["pictures"].items()} == {"wide": 1, "narrow": 1}
    regret = parts["regret"]
    smaller = sorted(set(sweep["width"]))[:-1]
    assert list(regret) == [(policy, width) for policy in ("unchanged", "scaled") for width in smaller]
    assert set(regret.index) == set(sweep["parameterization"]) and regret.min().min() >= 0
    other = pd.concat([sweep, sweep.assign(weight_decay=0.1, loss=9 - sweep["loss"])])
    both = opening(transfer_report(other, reference="μP", bootstraps=50))["regret"]
    assert both.equals(regret)


def test_summary_tables_tell_several_weight_decays_apart(sweep):
    both = pd.concat([sweep, sweep.assign(weight_decay=0.1, loss=sweep["loss"] + 0.1)])
    tables = summary_tables(transfer_report(both, reference="μP", bootstraps=50))
    assert all(set(table["weight_decay"]) == {0.0, 0.1} for table in tables.values())
    doses = both.assign(dose=both["weight_decay"], weight_decay=both["weight_decay"] / both["lr"])
    tables = summary_tables(transfer_report(doses, reference="μP", bootstraps=50))
    assert all(set(table["dose"]) == {0.0, 0.1} for table in tables.values())


def test_the_main_job(tmp_path, monkeypatch):
    monkeypatch.setenv("HPT_HEADLESS", "1")
    folders = {"--store": tmp_path / "store", "--out": tmp_path / "report", "--source": NOTEBOOKS[0].parent}
    arguments = ["notebooks", "--profile", "smoke", *(str(x) for pair in folders.items() for x in pair)]
    reader = Bets(folders["--store"])
    reader.place("05b.common", (0.2, 0.8))
    reader.keep_regret("SP", {"you": 0.125, "1/n": 0.02})
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    pages = sorted((tmp_path / "report").glob("*.html"))
    assert [p.stem for p in pages] == [*(n.stem for n in NOTEBOOKS), "index", "phases", "play"]
    assert not [reference for page in pages for reference in external_references(page.read_text())]
    index = (tmp_path / "report" / "index.html").read_text()
    for word in ("SP+Embd closes", "smoke", "data fingerprint", "log₂ η*", "κ", 'href="phases.html"'):
        assert word in index
    assert "Your bets" in index and "Your budget game" in index and "0.125" in index
    assert "SP+Embd" in (tmp_path / "report" / "phases.html").read_text()
    # What is asked for alone leaves the other pages and their links.
    again = CliRunner().invoke(main, [*arguments, NOTEBOOKS[0].stem])
    assert again.exit_code == 0 and "smoke: all" in again.output
    assert (tmp_path / "report" / "index.html").read_text().count('.html"><') == index.count('.html"><')
    # What cannot be asked for changes nothing, and nor does a dry run.
    wrong = CliRunner().invoke(main, [*arguments, "99"])
    assert wrong.exit_code == 1 and "starts with '99'" in wrong.output and "smoke: all" not in wrong.output
    dry = CliRunner().invoke(main, [*arguments, "--dry-run"])
    assert dry.exit_code == 0 and "10_your_own_model: smoke" in dry.output
    assert (tmp_path / "report" / "index.html").exists()


def test_a_main_job_that_is_out_of_time_says_how_it_goes_on(tmp_path, monkeypatch):
    """Nothing is executed before all runs are there."""
    monkeypatch.setattr(main_job, "run_together", lambda *_, **options: [])
    monkeypatch.setattr(main_job, "run_notebooks", None)
    folders = {"--store": tmp_path / "store", "--out": tmp_path / "report", "--source": NOTEBOOKS[0].parent}
    arguments = [str(x) for pair in folders.items() for x in pair]
    done = CliRunner().invoke(main, ["notebooks", "--profile=smoke", "--minutes=5", *arguments])
    assert done.exit_code == 0 and "to go on: hpt" in done.output
    assert not list((tmp_path / "report").iterdir())
