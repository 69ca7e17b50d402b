"""The page of the phase diagrams: one file without network, in a real browser, with real clicks."""

import json
import re

import numpy as np
import pytest

from hpt.metrics.basin import LN2
from hpt.metrics.wells import well_loss
from hpt.plots.phase_page import page_data, write_phase_page


def test_the_page_is_one_file_without_network(doubtful_report, tmp_path):
    text = write_phase_page(doubtful_report, tmp_path / "new" / "phases.html").read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href|url|import)\s*[=(]\s*[\"']?\s*(?:https?:)?//", text)
    assert text.count("</script>") == 1 and "/*DATA*/" not in text
    data = page_data(doubtful_report, "t")
    assert len(data["groups"]) == 8 and json.dumps(data, allow_nan=False)
    group = next(g for g in data["groups"] if g["name"] == "SP+LN λ=0")
    assert not group["figures"]["R"]["determined"] and group["figures"]["R"]["reason"] == "L∞ at a bound"
    first = data["groups"][0]["wells"][0]
    well = doubtful_report.basins.iloc[0]
    assert first["log2_lr"] == pytest.approx(well.log2_lr, rel=1e-6) and len(first["runs"]) == 18


def test_the_curve_of_a_well_is_the_formula_within_the_rates_tried(doubtful_report):
    (first, *_), *_ = (group["wells"] for group in page_data(doubtful_report, "t")["groups"])
    lr, loss = np.array(first["curve"]).T
    well = doubtful_report.basins.iloc[0]
    tried = [rate for rate, _ in first["runs"]]
    assert min(tried) <= lr[0] < lr[-1] <= max(tried)
    skew = doubtful_report.groups[0].fit.skew
    u = (lr - well.log2_lr) * LN2
    np.testing.assert_allclose(loss, well_loss(u, well.loss, well.curvature, skew), rtol=1e-6)
    assert lr[loss.argmin()] == pytest.approx(well.log2_lr, abs=0.05)


def test_numbers_that_json_lacks_are_told(doubtful_report):
    lost = next(g for g in page_data(doubtful_report, "t")["groups"] if g["name"] == "SP λ=0.1")
    assert lost["figures"]["E"]["estimate"] is None and lost["figures"]["E"]["text"] == "—"
    assert lost["wells"][-1]["curve"] == [] and lost["wells"][-1]["runs"][0][1] == 1e308


def test_the_page_under_real_clicks(doubtful_report, browser, tmp_path):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    browser.get(write_phase_page(doubtful_report, tmp_path / "phases.html").as_uri())

    def all_of(selector):
        return browser.find_elements("css selector", selector)

    def one(selector):
        (found,) = all_of(selector)
        return found

    frame = doubtful_report.to_frame()
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
    assert one("#tip").is_displayed() and f"[{row.kappa_low:.2f}"[:4] in one("#tip").text.replace("−", "-")
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


def test_a_name_that_looks_like_a_script_stays_a_name(doubtful_report, tmp_path):
    odd = "<!--<script></script>&'"
    page = write_phase_page(doubtful_report, tmp_path / "p.html", title=odd).read_text()
    assert odd not in page and page_data(doubtful_report, odd)["title"] == odd
