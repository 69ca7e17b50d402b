"""The page to play with, in a real browser, at the width of a laptop and of a phone."""

import math
from pathlib import Path

import pytest

import hpt
from hpt.plots.play_page import page_data, write_play_page


@pytest.fixture(scope="module")
def study():
    return hpt.reference("sixteen")


def test_the_page_has_the_mean_of_each_rate(study):
    data = page_data(study.results)
    assert [v["name"] for v in data["variants"]][:3] == ["SP", "SP+Embd", "μP"] and len(
        data["variants"]
    ) == 16
    (warmup,) = data["warmups"]
    table = study.table.query("parameterization == 'SP'")
    means = table.groupby(["width", "log2_lr"])["loss"].mean()
    for width, runs in data["variants"][0]["basins"][warmup].items():
        assert dict(runs) == pytest.approx(means[width].to_dict())


def test_a_variant_without_a_width_is_left_out(study):
    some = [r for r in study.results if r.config.parameterization.name != "SP" or r.config.model.width > 16]
    names = [v["name"] for v in page_data(some)["variants"]]
    assert len(names) == 15 and "SP" not in names


def test_the_page_in_the_repository_is_of_this_template(study, tmp_path):
    """Its data are of the day it was made; `hpt play` makes it again."""
    new = write_play_page(study.results, tmp_path / "play.html").read_text(encoding="utf-8")
    kept = (Path(__file__).parents[2] / "docs" / "play.html").read_text(encoding="utf-8")
    assert new.partition("const data = ")[0] == kept.partition("const data = ")[0], "hpt play"


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_under_real_clicks(study, browser, tmp_path, width):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    # A window is never narrower than some 500 pixels; the page's view is.
    size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(write_play_page(study.results, tmp_path / "play.html").as_uri())
    table = study.table.query("width == 128").groupby(["parameterization", "log2_lr"])["loss"].mean()

    def one(selector):
        (found,) = browser.find_elements("css selector", selector)
        return found

    def shown():
        return [path.get_attribute("data-width") for path in browser.find_elements("css selector", ".basin")]

    def choose(kind, value):
        one(f'input[name="{kind}"][value="{value}"]').click()

    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert shown() == ["16", "32", "64"]
    one("#width").send_keys(Keys.HOME)
    assert shown() == ["16"]
    one("#width").send_keys(Keys.END)

    # A click into the picture moves the flag; nothing is given away before it is planted.
    before = one("#rate-shown").text
    ActionChains(browser).move_to_element_with_offset(one("#chart svg"), -width // 8, 0).click().perform()
    assert one("#rate-shown").text != before and not browser.find_elements("css selector", "#price")

    one("#rate").send_keys(Keys.END)
    one("#plant").click()
    assert shown() == ["16", "32", "64", "128"]
    losses = table["SP"]
    price = losses.iloc[-1] - losses.min()
    assert f"costs {price:.2f} nats" in one("#price").text
    assert f"log₂ η = −{-losses.idxmin():.0f}" in one("#price").text
    assert [cell.text for cell in browser.find_elements("css selector", "#tries td")][-1] == f"{price:.2f}"

    # Another convention is the same runs and the same price; another variant hides the basin again.
    at_flag = one("#price").text
    choose("convention", "mup")
    assert one("#price").text == at_flag and "μP" in one("#chart svg").get_attribute("aria-label")
    choose("variant", "SP+Embd")
    assert shown() == ["16", "32", "64"]
    one("#plant").click()
    assert len(browser.find_elements("css selector", "#tries tbody tr")) == 2
    one('#others option[value="μP-LN"]').click()
    one("#plant").click()
    assert f"μP-LN {table['μP-LN'].min():.3f}" in one("#answer").text
    one("#again").click()
    assert shown() == ["16", "32", "64"]
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_a_further_warmup_is_a_switch_of_the_variants_that_have_it(study, browser, tmp_path):
    short = hpt.reference("warmup").arm("8 steps").results
    runs = [*study.results, *short]
    data = page_data(runs)
    assert data["warmups"] == [60, 8] and sorted(data["variants"][0]["basins"][8]) == [32, 128]
    browser.get(write_play_page(runs, tmp_path / "play.html").as_uri())

    def choose(kind, value):
        browser.find_element("css selector", f'input[name="{kind}"][value="{value}"]').click()

    def chosen(kind):
        return browser.find_element("css selector", f'input[name="{kind}"]:checked').get_attribute("value")

    def shown():
        return [path.get_attribute("data-width") for path in browser.find_elements("css selector", ".basin")]

    assert chosen("warmup") == "60" and shown() == ["16", "32", "64"]
    choose("warmup", 8)
    assert shown() == ["32"]
    browser.find_element("id", "plant").click()
    assert shown() == ["32", "128"]
    assert "SP, warm-up 8" in browser.find_element("id", "tries").text
    # μP was not trained with it.
    choose("variant", "μP")
    assert chosen("warmup") == "60" and shown() == ["16", "32", "64"]
    choose("warmup", 8)
    assert chosen("variant") == "SP" and shown() == ["32"]
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_the_price_of_the_tuned_rate_is_the_regret(study):
    from hpt.analysis.regret import transfer_regret

    data = page_data(study.results)
    basins = data["variants"][0]["basins"][data["warmups"][0]]
    *smaller, largest = sorted(basins)
    losses = dict(basins[largest])
    regrets = transfer_regret(study.table.query("parameterization == 'SP'"))
    for width, regret in zip(smaller, regrets.itertuples(), strict=True):
        tuned = min(basins[width], key=lambda run: run[1])[0]
        costs = [
            losses.get(rate, math.nan) - min(losses.values())
            for rate in (tuned, tuned - math.log2(largest / width))
        ]
        assert costs == pytest.approx([regret.unchanged, regret.scaled], abs=1e-6, nan_ok=True)
    assert math.isfinite(costs[0])
