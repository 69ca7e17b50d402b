"""Phase diagrams: the page in a real browser, with real clicks; the figures by what they draw."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from hpt.analysis.factorial import effects
from hpt.analysis.synthetic import Law, synthetic_sweep
from hpt.metrics.transfer import transfer_report
from hpt.parameterization.sixteen import PARAMETERIZATIONS
from hpt.plots.phase_page import page_data, write_phase_page
from hpt.plots.phases import figure_range, plot_effects, plot_phases
from hpt.plots.style import GREY, color_of_variant

LAWS = {
    "SP": Law(),
    "SP+Embd": Law(L_inf=2.42, beta=0.9, gamma=1.6),
    "SP+LN": Law(A=0.0, L_inf=3.0),
    "μP </script>": Law(L_inf=2.4),
}


@pytest.fixture(scope="module")
def report():
    table = pd.concat(
        [
            synthetic_sweep(LAWS, noise=0.005, seeds=2, seed=i).assign(weight_decay=w)
            for i, w in enumerate((0.0, 0.1))
        ]
    )
    table.loc[
        (table.parameterization == "SP") & (table.weight_decay == 0.1) & (table.width > 32), "loss"
    ] = np.inf
    return transfer_report(table, reference="SP+Embd", bootstraps=80)


def test_the_page_is_one_file_without_network(report, tmp_path):
    text = write_phase_page(report, tmp_path / "new" / "phases.html").read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href|url|import)\s*[=(]\s*[\"']?\s*(?:https?:)?//", text)
    assert text.count("</script>") == 1 and "/*DATA*/" not in text
    data = page_data(report, "t")
    assert len(data["groups"]) == 8 and json.dumps(data, allow_nan=False)
    group = next(g for g in data["groups"] if g["name"] == "SP+LN λ=0")
    assert not group["figures"]["R"]["sure"] and group["figures"]["R"]["why"] == "L∞ at a bound"
    first = data["groups"][0]["wells"][0]
    well = report.basins.iloc[0]
    assert first["lr"] == pytest.approx(well.log2_lr, rel=1e-6) and len(first["runs"]) == 18


def test_sixteen_colours_tell_sixteen_variants_apart():
    assert len({color_of_variant(str(p)) for p in PARAMETERIZATIONS}) == 16


def test_the_range_of_an_axis_is_that_of_what_is_determined(report):
    frame = report.to_frame()
    low, high = figure_range(frame, "R")
    sure = frame[frame.R_determined]
    assert low < sure.R_low.min() and sure.R_high.max() < high < 1
    assert figure_range(frame.assign(E_determined=False, E=np.nan), "E") == pytest.approx(
        (1e-3 / 1.5, 0.15)
    )


def test_phase_figures_grey_what_is_not_determined(report):
    figure = plot_phases(report)
    axes = figure.axes
    assert [ax.get_xscale() for ax in axes] == ["log", "linear", "log"]
    drawn = [line for line in axes[2].lines if len(line.get_xdata()) == 1]
    frame = report.to_frame().dropna(subset=["E", "R"])
    assert len(drawn) == len(frame)
    grey = sum(line.get_color() == GREY for line in drawn)
    assert grey == (~(frame.E_determined & frame.R_determined)).sum() > 0
    assert (
        "L∞ at a bound" in figure._suptitle.get_text()
        and "too few widths" in figure._suptitle.get_text()
    )


def test_effects_as_bars():
    names = ("SP", "SP+Embd", "SP+LN", "SP+Embd+LN")
    sweep = synthetic_sweep({name: Law(L_inf=2.5 - 0.1 * i) for i, name in enumerate(names)})
    frame = effects(transfer_report(sweep, bootstraps=50), "loss")
    figure = plot_effects(frame)
    assert [ax.get_xlabel().split()[0] for ax in figure.axes] == ["main", "interaction", "shapley"]
    bars = [bar.get_width() for bar in figure.axes[0].patches]
    main = frame[(frame.kind == "main") & frame.estimate.notna()].estimate
    assert sorted(bars) == pytest.approx(sorted(main))


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver")
    binary = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    driver_path = shutil.which("chromedriver")
    if not binary or not driver_path:
        pytest.skip("no chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--window-size=1300,1000",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))
    yield driver
    driver.quit()


def test_the_page_under_real_clicks(report, browser, tmp_path):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    browser.get(write_phase_page(report, tmp_path / "phases.html").as_uri())

    def all_of(selector):
        return browser.find_elements("css selector", selector)

    def one(selector):
        (found,) = all_of(selector)
        return found

    frame = report.to_frame()
    in_all = frame[["E", "kappa", "R"]].notna().all(axis=1).sum()
    assert len(all_of("#charts svg")) == 3 and len(all_of(".point")) == 3 * in_all
    assert "SP λ=0.1" in one("#missing").text and "too few widths" in one("#missing").text
    assert not one("#detail").is_displayed() and not one("#tip").is_displayed()

    def hit(group, pair):
        """The circle of a point; its bars may reach out further on one side."""
        return one(f'.point[data-group="{group}"][data-pair="{pair}"] .hit')

    point = hit("SP λ=0", "E-kappa")
    ActionChains(browser).move_to_element(point).perform()
    row = frame.iloc[0]
    assert one("#tip").is_displayed() and f"[{row.kappa_low:.2f}"[:4] in one("#tip").text.replace(
        "−", "-"
    )
    unsure = one('.point[data-group="SP+LN λ=0"][data-pair="kappa-R"]')
    assert unsure.get_attribute("data-sure") == "false"
    ActionChains(browser).move_to_element(hit("SP+LN λ=0", "kappa-R")).perform()
    assert "not determined: L∞ at a bound" in one("#tip").text

    ActionChains(browser).move_to_element(point).click().perform()
    assert "Basins of SP λ=0" in one("#detail").text
    assert len(all_of("#detail path.well")) == 5 and len(all_of("#detail line.optimum")) == 5
    assert len(all_of("#detail tr")) == 6 and len(all_of(".point.chosen")) == 3
    before = one("#detail svg").get_attribute("aria-label")
    one("#mup").click()
    assert one("#detail svg").get_attribute("aria-label") != before and one("#mup").is_selected()

    one('input[data-kind="decay"][value="0.1"]').click()
    assert all("λ=0.1" not in p.get_attribute("data-group") for p in all_of(".point"))
    one('input[data-kind="variant"][value="SP"]').click()
    assert not one("#detail").is_displayed()  # the chosen group went
    one('button[data-all="variant-none"]').click()
    assert not all_of(".point")
    one('button[data-all="variant-all"]').click()
    keyed = one('.point[data-group="SP+Embd λ=0"][data-pair="E-R"]')
    keyed.send_keys(Keys.ENTER)
    assert "Basins of SP+Embd λ=0" in one("#detail").text
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
