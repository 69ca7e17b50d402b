"""The report: pages that need no network, static outputs, formulas as MathML, room to fit."""

import base64
import html
import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from hpt.errors import NotebookError
from hpt.notebooks.claims import Answer, Claim, Verdict
from hpt.notebooks.pages import external_references, is_folded, page_body, write_report
from hpt.notebooks.runner import NotebookResult
from hpt.plots.style import new_figure
from hpt.runs.environment import environment_facts

WIDGET = "application/vnd.jupyter.widget-view+json"
LONG_LINE = "value = " + " + ".join(f"quantity_{i}" for i in range(40))
LONG_FORMULA = (
    r"L(n, \eta) \approx L_\infty + A n^{-\alpha} + \tfrac12 h(n) (\ln\eta - \ln\eta^*(n))^2 + " * 3 + "0"
)
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
HEADER = (
    "# The tour of $n$\n\n- **Question** Does $\\eta^*$ move?\n- **Claim** it does\n"
    "- **Prerequisites** none\n- **Time** smoke 1 s, quick 2 min, gpu 3 h"
)

PROSE = rf"""## What $\eta^*(n)$ is

Inline $a<b$, and display:

$$\frac{{1}}{{\sqrt{{d_\text{{head}}}}}}$$

long $$ {LONG_FORMULA} $$ and ${LONG_FORMULA}$.

\begin{{align*}}
\kappa &= \alpha - 2\beta \\
R &= 0
\end{{align*}}

[paper](https://arxiv.org/abs/2203.03466) [next](02_next.ipynb#part) [lost](../README.md) ![d](drawing.png)

| switch | on |
|---|---|
| Embd | at $\eta\cdot m$ |

## Two

## Three
"""


def display(**bundle):
    return new_output("display_data", {key.replace("__", "/"): value for key, value in bundle.items()})


def executed(*cells):
    parameters = new_code_cell("steps = 10", metadata={"tags": ["parameters"]})
    injected = new_code_cell("steps = 300", metadata={"tags": ["injected-parameters"]})
    return new_notebook(
        cells=[new_markdown_cell(HEADER), parameters, injected, *cells],
        metadata={"language_info": {"name": "python", "pygments_lexer": "ipython3"}},
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report of three notebooks with everything in them that notebooks have; its folder."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "drawing.png").write_bytes(base64.b64decode(PIXEL))
    wide = pd.DataFrame(
        np.arange(60.0).reshape(3, 20) * math.pi, columns=[f"quantity_{i}" for i in range(20)]
    )
    first = executed(
        new_markdown_cell(PROSE),
        new_code_cell(
            LONG_LINE, outputs=[new_output("stream", name="stdout", text="x" * 300 + "\n" + "a b " * 100)]
        ),
        new_code_cell(
            "plot()",
            metadata={"tags": ["hide-input"]},
            outputs=[display(image__png=PIXEL, text__plain="Figure")],
        ),
        new_code_cell(
            "slider",
            outputs=[
                new_output(
                    "display_data",
                    {WIDGET: {"model_id": "1"}, "image/png": PIXEL, "text/plain": "Tool-repr()"},
                ),
                new_output("display_data", {WIDGET: {"model_id": "2"}, "text/plain": "IntSlider-repr()"}),
                new_output("display_data", {"application/javascript": "alert(1)"}),
            ],
        ),
        new_code_cell(
            "table",
            outputs=[new_output("execute_result", {"text/html": wide._repr_html_(), "text/plain": "t"})],
        ),
        new_code_cell(
            "math",
            outputs=[
                display(text__latex="$\\displaystyle \\frac{x}{y}$", text__plain="<Math>"),
                display(text__markdown="**E** is $E = 0.1$"),
            ],
        ),
        new_code_cell(
            "1/0",
            metadata={"papermill": {"duration": 64.2}},
            outputs=[
                new_output(
                    "error", ename="E", evalue="v", traceback=["\x1b[31mRed\x1b[0m <tag> " + "-" * 200]
                )
            ],
        ),
    )
    results = []
    for i, (name, notebook) in enumerate(
        [("00_tour", first), ("02_next", executed()), ("05_last", executed())]
    ):
        nbformat.write(notebook, folder / f"{name}.ipynb")
        results.append(
            NotebookResult(
                name,
                folder / f"{name}.ipynb",
                folder / f"{name}.ipynb",
                60.0 * i + 5,
                parameters={"steps": 300},
            )
        )
    long = "6×, " + "and much more text than fits " * 5
    claims = [
        Claim("A", "E falls near $\\mu$P & more", "13×", "E", "so", Answer(long, Verdict.HOLDS), "ours"),
        Claim("B", "λ lowers E", "yes", "E", "", Answer("no", Verdict.FAILS, "it does not"), "theirs"),
    ]
    figures = pd.DataFrame(
        {
            "parameterization": ["SP", "μP"],
            "width": [32, 256],
            **{
                name: [0.5, np.nan]
                for stem in ("E", "E_extrap", "kappa", "R", "alpha", "beta")
                for name in (stem, f"{stem}_low", f"{stem}_high")
            },
        }
    )
    out = folder / "html"
    index = write_report(
        results,
        out,
        claims=claims,
        summary_tables={"Transfer $E$": figures},
        facts={"profile": "quick", "data_fingerprint": "f" * 64} | environment_facts(),
        more={"05_last.html": "Points in $E$ and more"},
        pictures={
            name: f'<?xml version="1.0"?>\n<svg viewBox="0 0 9 4"><title>{name}</title></svg>'
            for name in SIZES
        },
        regret=pd.DataFrame({("unchanged", 16): {"SP": np.nan}, ("scaled", 16): {"SP": 0.0125}}),
    )
    assert index == out / "index.html"
    return out


SIZES = ("wide", "narrow")
SVG = '<?xml version="1.0"?>\n<svg viewBox="0 0 9 4"><title>{}</title></svg>'


def test_the_index_opens_with_the_basins_and_their_price(report):
    page = BeautifulSoup((report / "index.html").read_text(encoding="utf-8"), "html.parser")
    first = page.select("section")[1]
    assert [figure.title.get_text() for figure in first.select("figure svg")] == list(SIZES)
    cells = [cell.get_text() for cell in first.table.select("tbody td")]
    assert cells == ["SP", "–", "0.013"] or cells == ["SP", "–", "0.012"]
    assert "octaves (factors of two)" in first.get_text() and "nats a token" in first.get_text()


class Page(HTMLParser):
    """Every tag with its attributes, the text outside code, and the text of styles."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.prose, self.styles, self._open = [], "", "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("pre", "code", "style", "script"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        if self._open and self._open[-1] == tag:
            self._open.pop()

    def handle_data(self, data):
        if not self._open:
            self.prose += data
        elif self._open[-1] == "style":
            self.styles += data


def pages(folder):
    found = {path.stem: Page(path.read_text(encoding="utf-8")) for path in folder.glob("*.html")}
    assert set(found) == {"index", "00_tour", "02_next", "05_last"}
    return found


def test_no_page_fetches_anything(report):
    for name, page in pages(report).items():
        for tag, attrs in page.tags:
            assert tag not in ("script", "link", "iframe", "object", "embed", "base"), (name, tag)
            for key, value in attrs.items():
                if key in ("src", "srcset", "href", "xlink:href", "data", "poster", "background", "action"):
                    local = value.startswith(("data:", "#")) or re.fullmatch(r"\w+\.html(#\w*)?", value)
                    assert local or (tag == "a" and value.startswith("https://arxiv.org/")), (
                        name,
                        tag,
                        key,
                        value[:80],
                    )
        styles = page.styles + " ".join(attrs.get("style") or "" for _, attrs in page.tags)
        assert "url(" not in styles and "@import" not in styles, name


def test_links_between_pages_lead_somewhere(report):
    found = pages(report)
    links = {name: [a["href"] for tag, a in page.tags if tag == "a"] for name, page in found.items()}
    for name in links:
        ids = {attrs.get("id") for _, attrs in found[name].tags}
        for target in links[name]:
            if target.startswith("#"):
                assert target[1:] in ids, (name, target)
            elif not target.startswith("https:"):
                assert target.partition("#")[0].removesuffix(".html") in found, (name, target)
    assert "02_next.html#part" in links["00_tour"] and "lost" in found["00_tour"].prose
    assert {"00_tour.html", "05_last.html", "index.html"} <= set(links["02_next"])
    assert {"00_tour.html", "02_next.html", "05_last.html"} <= set(links["index"])


def test_formulas_are_mathml_and_no_tex_is_left(report):
    for name, page in pages(report).items():
        assert "$" not in page.prose and "\\" not in page.prose and "MathJax" not in page.prose, name
        assert any(tag == "math" for tag, _ in page.tags), name
    tour = pages(report)["00_tour"]
    assert {"mfrac", "msqrt", "mtable"} <= {tag for tag, _ in tour.tags}
    assert "a<b" in tour.prose


def test_widgets_are_shown_as_their_picture_or_named(report):
    text = (report / "00_tour.html").read_text(encoding="utf-8")
    assert (
        text.count(f"data:image/png;base64,{PIXEL}") == 3
    )  # a figure, a widget's picture, and a file in markdown
    assert "repr()" not in text and "widget-view" not in text and "alert(1)" not in text
    assert text.count("An interactive part stands here") == 2
    assert not re.search(r'<pre class="out"[^>]*>\s*</pre>|<div class="out[^>]*>\s*</div>', text)


@pytest.mark.parametrize(
    "tags, mime, folded",
    [
        ([], "image/svg+xml", True),
        ([], "image/png", True),
        ([], "text/html", False),
        (["open"], "image/png", False),
        (["hide-input"], "text/plain", True),
    ],
)
def test_the_code_of_a_picture_is_folded(tags, mime, folded):
    cell = new_code_cell("x", metadata={"tags": tags}, outputs=[new_output("display_data", {mime: ""})])
    assert is_folded(cell) == folded
    assert not is_folded(new_code_cell("x", outputs=[new_output("stream", text="a picture")]))


def test_tags_that_fold_do_so_in_jupyterlab_too():
    """And there are some: the long drawings."""
    notebooks = Path(__file__).parents[2].joinpath("notebooks").glob("*.ipynb")
    found = set()
    for path in notebooks:
        for cell in nbformat.read(path, as_version=4).cells:
            tagged = "hide-input" in cell.metadata.get("tags", [])
            hidden = cell.metadata.get("jupyter", {}).get("source_hidden", False)
            assert tagged == hidden, (path.name, cell.id)
            found.add(tagged)
    assert found == {True, False}


def test_a_further_page_leads_back_to_the_index(tmp_path):
    page = tmp_path / "phases.html"
    page.write_text("<body>\n<h1>η</h1>", encoding="utf-8")
    for _ in range(2):
        write_report([], tmp_path, facts={}, more={page.name: "phases"})
    back = '<body>\n<p><a href="index.html">← Report</a></p>\n<h1>η</h1>'
    assert page.read_text(encoding="utf-8") == back


def test_a_picture_has_a_text_and_one_for_phones(tmp_path):
    figure, (ax, _) = new_figure(2)
    ax.set(xlabel="width", ylabel="a < b", title="SP")
    data = figure._repr_mimebundle_()
    cells = [
        new_code_cell("plot()", outputs=[new_output("display_data", data)]),
        new_code_cell("plt.show()", outputs=[display(image__png=PIXEL)]),
    ]
    path = tmp_path / "01_figures.ipynb"
    notebook = new_notebook(cells=cells)
    nbformat.validate(notebook)
    nbformat.write(notebook, path)
    result = NotebookResult("01_figures", path, path, 1.0, {})
    # Rendered before, as beside other notebooks.
    bodies = {"01_figures": page_body(result, ["01_figures"])}
    write_report([result], tmp_path / "out", facts={}, bodies=bodies)
    page = (tmp_path / "out" / "01_figures.html").read_text()
    write_report([result], tmp_path / "out", facts={})
    assert (tmp_path / "out" / "01_figures.html").read_text() == page
    soup = BeautifulSoup(page, "html.parser")
    ours, other = soup.select("figure")
    assert ours.img["alt"] == "a < b against width: SP" and ours.img["src"].startswith("data:image/svg+xml")
    assert ours.source["srcset"] != ours.img["src"] and ours.source["media"] == "(max-width: 600px)"
    assert other.img["alt"] == "Figure drawn by the cell above" and other.source is None


def test_code_is_folded_where_the_tags_say_so(report):
    text = (report / "00_tour.html").read_text(encoding="utf-8")
    folded = re.findall(
        r"<details class=\"input[^>]*><summary>([^<]*)</summary>(.*?)</details>", text, re.DOTALL
    )
    assert [name for name, _ in folded] == [
        "Parameters, as written",
        "Parameters of this run",
        "Show code",
        "Show code",
    ]
    assert "plot" in folded[2][1] and "1 min 04 s" in text
    assert '<span class="ansi-red-fg">Red</span> &lt;tag&gt;' in text
    assert "quantity_39" not in "".join(code for _, code in folded) and "quantity_39" in text


def test_the_index_shows_facts_claims_tables_and_notebooks(report):
    text = (report / "index.html").read_text(encoding="utf-8")
    prose = pages(report)["index"].prose
    for shown in (
        "data fingerprint",
        "f" * 64,
        "13×",
        "λ lowers E",
        "it does not",
        "theirs",
        "0.500",
        "5.0 s",
        "1 min 05 s",
        "3, run in 3 min 15 s",
        "Does η∗ move?",
        "The tour of n",
        "Points in E and more",
    ):
        assert shown in prose, shown
    assert '<span class="verdict holds">holds' in text
    assert '<span class="verdict fails">does not hold here' in text


@pytest.mark.parametrize(
    "part, found",
    [
        ('<script src="https://cdn/x.js"></script>', 1),
        ('<link href="//cdn/x.css">', 1),
        ('<img srcset="a.png, http://h/b 2x">', 1),
        ('<style>@import "x.css"; a { background: url(https://h/i) }</style>', 2),
        ('<p style="background:url(i.png)">', 1),
        ('<a href="https://arxiv.org">paper</a>', 0),
        ('<img src="data:image/png;base64,aa//aa=">', 0),
        ("<style>a { background: url(data:image/png;base64,aa) }</style>", 0),
        ("<pre>see https://x.org</pre>", 0),
    ],
)
def test_references_to_the_network_are_found(part, found):
    assert len(external_references(f"<html><body>{part}</body></html>")) == found


def test_a_page_that_needs_the_network_is_refused_and_no_index_is_left(tmp_path):
    path = tmp_path / "01_a.ipynb"
    nbformat.write(executed(new_markdown_cell("![x](https://example.org/x.png)")), path)
    (tmp_path / "index.html").write_text("old")
    with pytest.raises(NotebookError, match=r"01_a\.html would need the network: <img src='https://example"):
        write_report([NotebookResult("01_a", path, path, 1.0, {})], tmp_path, facts={})
    assert not (tmp_path / "index.html").exists()


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_nothing_runs_off_the_page_on_a_phone_or_a_laptop(report, tmp_path):
    """Each page in a frame of either width, every fold open: as wide as the frame, and no wider."""
    frames = "".join(
        f'<iframe title="{path.name} {width}" style="width:{width}px;height:800px;border:0" '
        f'srcdoc="{html.escape(path.read_text(encoding="utf-8"))}"></iframe>'
        for path in sorted(report.glob("*.html"))
        for width in (390, 1280)
    )
    script = """onload = () => {
        const measure = frame => {
            const page = frame.contentDocument;
            page.querySelectorAll('details').forEach(fold => fold.open = true);
            const {scrollWidth, clientWidth} = page.documentElement;
            return [frame.title, scrollWidth, clientWidth, page.body.innerText.length];
        };
        document.body.innerText =
        JSON.stringify([...document.querySelectorAll('iframe')].map(measure));
    }"""
    harness = tmp_path / "harness.html"
    harness.write_text(
        f"<!DOCTYPE html><meta charset=utf-8><body>{frames}<script>{script}</script></body>", encoding="utf-8"
    )
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=20000",
            "--dump-dom",
            harness.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=1200,
    )
    measured = json.loads(html.unescape(re.search(r"<body>(\[\[.*\]\])", done.stdout, re.DOTALL)[1]))
    assert len(measured) == 8
    for title, scroll_width, width, letters in measured:
        assert scroll_width <= width == int(title.split()[1]) and letters > 100, (title, scroll_width)


def test_folded_text_stays_in_its_fold(tmp_path):
    """Markdown between <details> and </details> is inside them on the page too."""
    cells = [
        new_markdown_cell("<details><summary>Solution</summary>\n\nThe `answer`.\n\n</details>\n\nAfter.")
    ]
    notebook = new_notebook(cells=cells)
    nbformat.write(notebook, tmp_path / "01_fold.ipynb")
    path = tmp_path / "01_fold.ipynb"
    result = NotebookResult(name="01_fold", source=path, output=path, seconds=1, parameters={})
    write_report([result], tmp_path / "out", facts={})
    soup = BeautifulSoup((tmp_path / "out" / "01_fold.html").read_text(), "html.parser")
    fold = next(d for d in soup.find_all("details") if d.summary.get_text() == "Solution")
    assert "answer" in fold.get_text() and "After" not in fold.get_text()
