"""Notebooks in JupyterLab, driven in a real browser as a reader would: run, bet, answer, move what moves."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = ("00_tour", "03_embedding_lr_fix")
#: A slow machine that has other things to do: a kernel's start, or all runs of a notebook.
MOST_SECONDS = 900

pytestmark = pytest.mark.timeout(2400)


def wait_for(what, condition):
    """What a condition gives once it gives anything, asked ever more rarely."""
    started = time.monotonic()
    pause = 0.05
    while not (found := condition()):
        assert time.monotonic() < started + MOST_SECONDS, f"waited in vain for {what}"
        time.sleep(pause)
        pause = min(1.1 * pause, 2.0)
    return found


@pytest.fixture(scope="module")
def lab(browser, tmp_path_factory):
    """The address of a JupyterLab whose folder has the notebooks at profile smoke, and no run yet."""
    pytest.importorskip("jupyterlab")
    folder = tmp_path_factory.mktemp("lab")
    notebooks = folder / "notebooks"
    notebooks.mkdir()
    for file in (ROOT / "notebooks").glob("*.py"):
        shutil.copy(file, notebooks)
    for name in NAMES:
        text = (ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8")
        assert 'profile = \\"quick\\"' in text
        text = text.replace('profile = \\"quick\\"', 'profile = \\"smoke\\"')
        (notebooks / f"{name}.ipynb").write_text(text, encoding="utf-8")
    # The settings that `make env` writes beside JupyterLab.
    (overrides,) = re.findall(r"echo '(\{.*\})'", (ROOT / "Makefile").read_text(encoding="utf-8"))
    (folder / "settings").mkdir()
    (folder / "settings" / "overrides.json").write_text(overrides)
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        port = any_port.getsockname()[1]
    places = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    own = {place: str(folder / place.lower()) for place in places}
    own |= {f"JUPYTERLAB_{place}_DIR": str(folder / place.lower()) for place in ("SETTINGS", "WORKSPACES")}
    own |= {
        "HPT_CACHE_DIR": str(tmp_path_factory.getbasetemp() / "cache"),
        "HPT_CORES": "1",
        "OMP_NUM_THREADS": "1",
    }
    environment = os.environ | own | {"PYTHONPATH": str(ROOT)}
    environment.pop("HPT_HEADLESS", None)
    options = {
        "--ServerApp.port": port,
        "--ServerApp.root_dir": folder,
        "--IdentityProvider.token": "token",
        "--LabApp.app_settings_dir": folder / "settings",
        "--LabApp.expose_app_in_browser": True,
    }
    said = (folder / "lab.log").open("w")
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
        + [f"{name}={value}" for name, value in options.items()],
        env=environment,
        stdout=said,
        stderr=said,
    )
    address = f"http://127.0.0.1:{port}"

    def answers():
        assert server.poll() is None, (folder / "lab.log").read_text()
        try:
            return urllib.request.urlopen(f"{address}/api?token=token", timeout=5).status == 200
        except OSError:
            return False

    try:
        wait_for("JupyterLab's start", answers)
        yield address
    finally:
        server.terminate()
        server.wait()
        said.close()


class Notebook:
    """A notebook that is open in JupyterLab."""

    def __init__(self, browser, address, name):
        self.browser = browser
        self.keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
        browser.get(f"{address}/lab/tree/notebooks/{name}.ipynb?token=token&reset")
        kernel = "return window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status"
        wait_for("the kernel", lambda: browser.execute_script(kernel) == "idle")

    def ask(self, script, *arguments):
        """What JavaScript says of this notebook's cells."""
        cells = "const cells = jupyterapp.shell.currentWidget.content.widgets; "
        return self.browser.execute_script(cells + script, *arguments)

    def run_all(self, meanwhile=lambda: None):
        """Run each cell; none ends in an error."""
        self.ask("jupyterapp.commands.execute('notebook:run-all-cells')")

        def done():
            meanwhile()
            return self.idle() and self.ask(
                "return cells.every(c => c.model.type != 'code' || c.model.executionCount)"
            )

        wait_for("all cells", done)
        for cell in self.ask("return cells.flatMap((c, i) => c.model.type == 'code' ? [i] : [])"):
            self.printed(cell)

    def idle(self):
        return self.ask(
            "return cells.every(c => c.model.type != 'code' || c.model.executionState == 'idle')"
            " && jupyterapp.shell.currentWidget.sessionContext.session.kernel.status == 'idle'"
        )

    def find(self, text):
        """Number of the cell whose source has a text."""
        (found,) = self.ask(
            "return cells.flatMap((c, i) => c.model.sharedModel.source.includes(arguments[0]) ? [i] : [])",
            text,
        )
        return found

    def nodes(self, cell, selector):
        """The elements of a kind that are shown of a cell, in sight."""
        self.ask("jupyterapp.shell.currentWidget.content.scrollToItem(arguments[0])", cell)
        script = (
            "const found = [...cells[arguments[0]].node.querySelectorAll(arguments[1])];"
            "found[0]?.scrollIntoView({block: 'center'}); return found"
        )
        return wait_for(selector, lambda: self.ask(script, cell, selector))

    def write(self, cell, old, new, says):
        """Replace what stands on the line that has a text, by hand, and run the cell."""
        self.nodes(cell, ".cm-content")
        (line,) = self.ask(
            "return [...cells[arguments[0]].node.querySelectorAll('.cm-line')]"
            ".filter(line => line.textContent.includes(arguments[1]))",
            cell,
            old,
        )
        line.click()
        self.type(self.keys.END, self.keys.SHIFT + self.keys.HOME)
        self.type(new)
        assert new in self.ask("return cells[arguments[0]].model.sharedModel.source", cell)
        self.run(cell, says)

    def run(self, cell, says):
        """Run a cell with Shift+Enter, which then prints a text."""
        (editor,) = self.nodes(cell, ".cm-content")
        editor.click()
        self.type(self.keys.SHIFT, self.keys.ENTER)
        wait_for(says, lambda: says in self.printed(cell))

    def printed(self, cell):
        """What a cell prints; an error ends the test."""
        outputs = self.ask("return cells[arguments[0]].model.outputs.toJSON()", cell)
        assert not [output for output in outputs if output["output_type"] == "error"], outputs
        return "".join(output.get("text", "") for output in outputs)

    def type(self, *keys):
        self.browser.switch_to.active_element.send_keys(*keys)

    def draws_anew(self, cell, move):
        """Another picture comes once a control of a cell is moved."""
        picture = "return cells[arguments[0]].node.querySelector('img.widget-image').src"
        before = self.ask(picture, cell)
        move()
        wait_for("another picture", lambda: self.ask(picture, cell) != before)

    def pictures(self, cell):
        """How many figures stand below a cell."""
        script = "return cells[arguments[0]].node.querySelectorAll('.jp-OutputArea-output picture').length"
        return self.ask(script, cell)

    def is_cut(self, cell):
        """Whether something below a cell is wider than its place."""
        outputs = "[...cells[arguments[0]].node.querySelectorAll('.jp-OutputArea-output')]"
        return self.ask(f"return {outputs}.some(place => place.scrollWidth > place.clientWidth)", cell)


class ProgressBars:
    """What the progress bars in the page said, from the first sight on."""

    def __init__(self, notebook):
        self.notebook = notebook
        self.seen = []

    def look(self):
        for bar, text in self.notebook.ask(
            "return [...document.querySelectorAll('.jp-OutputArea .widget-hbox:has(.progress-bar)')]"
            ".map(e => [e.querySelector('.progress-bar').style.width, e.textContent])"
        ):
            counts = re.search(r"(\d+)/(\d+)\s\[", text)
            if counts:
                self.seen.append((float(bar.rstrip("%") or 0), *map(int, counts.groups())))

    def check(self):
        """Not full at first, as long as the count says, and full at last."""
        first, last = self.seen[0], self.seen[-1]
        assert first[1] < first[2] and last[1] == last[2]
        # A bar moves a moment before its count does: a look may fall between.
        agree = [abs(percent - 100 * done / total) < 0.1 for percent, done, total in self.seen]
        assert agree[-1] and sum(agree) > len(agree) / 2


def test_a_reader_of_the_tour_bets_answers_and_sees(browser, lab):
    tour = Notebook(browser, lab, "00_tour")
    bars = ProgressBars(tour)
    tour.run_all(bars.look)
    bars.check()
    assert not browser.find_elements("css selector", ".jp-toast-button, .jp-Dialog")

    bet, result = tour.find('bets.place("00.gain"'), tour.find('bets.reveal("00.gain"')
    assert not tour.pictures(result)
    tour.write(bet, "None", 'bets.place("00.gain", (0.1, 0.3))', "your bet: 0.1 to 0.3")
    tour.run(result, "you bet 0.1 to 0.3; what came out")
    wait_for("the basins", lambda: tour.pictures(result) == 1)

    answer = tour.find('check("00.octaves"')
    tour.write(answer, "...", "return other - lr", "✗ 00.octaves(")
    tour.write(answer, "return", "return np.log2(other / lr)", "✓ 00.octaves is right")


def test_a_reader_of_the_fix_moves_runs_and_is_answered(browser, lab):
    from selenium.webdriver.support.ui import Select

    fix = Notebook(browser, lab, "03_embedding_lr_fix")
    bars = ProgressBars(fix)
    fix.run_all(bars.look)
    bars.check()
    rate = fix.find('check("03.embedding_lr"')
    fix.write(rate, "...", "return lr * base_width / width", "✗ 03.embedding_lr(")
    fix.write(rate, "return", "return lr * width / base_width", "✓ 03.embedding_lr is right")

    bet, result = fix.find('bets.place("03.share"'), fix.find('bets.reveal("03.share"')
    fix.write(bet, "None", 'bets.place("03.share", (0.5, "?"))', "(low, high), which hold it with 80 %")
    fix.write(bet, "?", 'bets.place("03.share", (0.5, 1))', "your bet: 0.5 to 1")
    fix.run(result, "you bet 0.5 to 1; what came out")
    wait_for("the basins", lambda: fix.pictures(result) == 1)
    assert not fix.is_cut(result)

    explorer = fix.find("RunExplorer(results)")
    width, octaves = fix.nodes(explorer, ".noUi-handle")
    for slider in (width, octaves):
        fix.draws_anew(explorer, lambda slider=slider: slider.send_keys(fix.keys.HOME))
    (variants,) = fix.nodes(explorer, "select")
    fix.draws_anew(explorer, lambda: Select(variants).select_by_visible_text("μP"))
