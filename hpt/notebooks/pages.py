"""The report: one HTML page a notebook and an index, readable with the network off.

Formulas become MathML while the page is made, pictures and styles are embedded, and these pages
have no script at all.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from bs4 import BeautifulSoup
from markupsafe import Markup
from nbconvert.exporters import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from traitlets.config import Config

from hpt.errors import NotebookError
from hpt.notebooks.claims import Claim
from hpt.notebooks.output_tables import set_table
from hpt.notebooks.rendering import environment, glued, mathml, signed
from hpt.notebooks.runner import NotebookResult
from hpt.notebooks.source import header, read_notebook
from hpt.study.cost import duration

#: What an output is shown as, the best first. Of widgets and scripts the page only says that they
#: are elsewhere.
_SHOWN = [
    "text/html",
    "text/markdown",
    "image/svg+xml",
    "image/png",
    "image/jpeg",
    "text/latex",
    "application/vnd.jupyter.widget-view+json",
    "application/javascript",
    "text/plain",
]
_BACK = '<p><a href="index.html">← Report</a></p>\n'
#: Attributes that hold an address.
_FETCHED = ("src", "srcset", "href", "xlink:href", "data", "poster", "background", "action")


def write_report(
    results: Sequence[NotebookResult],
    out_dir: Path,
    *,
    facts: Mapping[str, Any],
    claims: Sequence[Claim] = (),
    summary_tables: Mapping[str, pd.DataFrame] | None = None,
    more: Mapping[str, str] | None = None,
    pictures: Mapping[str, str] | None = None,
    regret: pd.DataFrame | None = None,
    bodies: Mapping[str, Markup] | None = None,
) -> Path:
    """Write ``NAME.html`` for each notebook and ``index.html`` into ``out_dir``.

    Parameters
    ----------
    facts: what the run ran on and with. Keys become labels (``data_fingerprint`` → "data
        fingerprint").
    claims: of the papers, with their verdicts; of one that is tested twice the first.
    summary_tables: caption → table, shown as :func:`~hpt.notebooks.rendering.table_html` says.
    more: further pages of ``out_dir`` that the index links to: file name → what it shows. They get a link
        back.
    pictures: the basins that the index opens with, as SVG: "wide", and "narrow" for a phone.
    regret: the prices below them, nats: a row a parameterization, a column for each of "unchanged" and
        "scaled" and each width that was tuned at.
    bodies: what :func:`page_body` gave for a notebook already, by its name.

    Returns
    -------
    The path of the index, which is there only if every page is.

    Raises
    ------
    NotebookError: if a page would need the network.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    index = out_dir / "index.html"
    index.unlink(missing_ok=True)
    names = {result.name for result in results}
    pages = [_page(result) for result in results]
    for number, result in enumerate(results):
        body = (bodies or {}).get(result.name) or page_body(result, names)
        _write(out_dir / f"{result.name}.html", "page", pages=pages, number=number, body=body)
    parts = {"pictures": pictures, "regret": regret, "tables": summary_tables, "more": more}
    for name in more or ():
        _lead_back(out_dir / name)
    _write(index, "index", pages=pages, facts=facts, claims=claims, **parts)
    return index


def external_references(page: str) -> list[str]:
    """Everything in an HTML page that a browser would fetch from the network; links to follow
    (``<a>``) are free."""
    reader = _Addresses()
    reader.feed(page)
    reader.close()
    urls = r"url\(\s*['\"]?(?!data:|#)[^)]*\)|@import[^;]*"
    return reader.found + [url for style in reader.styles for url in re.findall(urls, style)]


class _Addresses(HTMLParser):
    """A page's addresses in the network, and its styles. Tags alone tell: a tree takes four times as long."""

    def __init__(self):
        super().__init__()
        self.found, self.styles = [], []

    def handle_starttag(self, tag, attrs):
        given = {name: value or "" for name, value in attrs}
        self.styles.append(given.get("style", ""))
        for name in filter(given.get, _FETCHED):
            if (tag, name) != ("a", "href") and re.search(r"(^|[\s,])(\w+:)?//", given[name]):
                self.found.append(f"<{tag} {name}={given[name][:80]!r}>")

    def handle_data(self, data):
        if self.cdata_elem == "style":
            self.styles.append(data)


class _Renderer(IPythonRenderer):
    """Markdown to HTML with formulas as MathML."""

    def block_html(self, html):
        # Embedding images re-parses each block on its own, which would close a <details> before its
        # content.
        return super().block_html(html) if "<img" in html else html

    inline_math = staticmethod(mathml)

    def block_math(self, body):
        return mathml(body, display=True)

    def latex_environment(self, name, body):
        return mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", display=True)


class _Exporter(HTMLExporter):
    """The cells of a notebook as an HTML fragment, from templates/notebook."""

    @jinja2.pass_context
    def markdown2html(self, context, source):
        renderer = _Renderer(
            escape=False,
            embed_images=True,
            path=context["resources"]["metadata"]["path"],
            attachments=context["cell"].get("attachments", {}),
        )
        return MarkdownWithMath(renderer=renderer).render(source)


def _page(result):
    """What other pages say of a notebook's."""
    head = header(read_notebook(result.output))
    return {"result": result, "title": head["Title"] or result.name, "question": head["Question"]}


def page_body(result: NotebookResult, names: Collection[str]) -> Markup:
    """The cells of one executed notebook as HTML, with links to the notebooks of these names led to their
    pages."""
    exporter = _Exporter(
        config=Config(NbConvertBase={"display_data_priority": _SHOWN}),
        template_name="notebook",
        extra_template_basedirs=[str(Path(__file__).with_name("templates"))],
        filters={"duration": duration, "mathml": mathml, "is_folded": is_folded, "signed": signed},
    )
    resources = {"metadata": {"path": str(result.source.parent)}}
    body, _ = exporter.from_notebook_node(read_notebook(result.output), resources)
    soup = BeautifulSoup(body, "html.parser")
    _lead_links(soup, names)
    for table in soup.select(".out.html table"):
        set_table(table)
    for remark in soup.select(".out.html > ul > li"):
        remark.string = signed(remark.get_text())
    _add_contents(soup)
    return Markup(glued(str(soup)))


def is_folded(cell: NotebookNode) -> bool:
    """Whether a page shows a cell's code only where it is asked for: that of a picture, unless the cell has
    the tag "open", and of a cell with the tag "hide-input"."""
    tags = cell.metadata.get("tags", [])
    if "open" in tags:
        return False
    shown = [mime for output in cell.outputs for mime in output.get("data", {})]
    return "hide-input" in tags or any(mime.startswith("image/") for mime in shown)


def _lead_back(path):
    """A link to the index above the heading that a page begins with."""
    page = path.read_text(encoding="utf-8")
    path.write_text(page.replace("<body>\n<h1", f"<body>\n{_BACK}<h1", 1), encoding="utf-8")


def _lead_links(soup, names):
    """Lead links to notebooks of the report to their pages, and unlink what is not beside it."""
    for link in soup.find_all("a", href=re.compile(r"^(?!\w+:|#|//)")):
        path = re.fullmatch(r"(?:\./)?(.*)\.ipynb(#.*)?", link["href"])
        if path and path[1] in names:
            link["href"] = f"{path[1]}.html{path[2] or ''}"
        else:
            link.unwrap()


def _add_contents(soup):
    """A list of the headings after the first cell, where there are more than two."""
    headings = soup.select("h2[id]")
    if len(headings) < 3:
        return
    items = ""
    for heading in headings:
        text = "".join(str(part) for part in heading.contents if part.name != "a")
        items += f'<li><a href="#{heading["id"]}">{text}</a></li>'
    contents = f'<details class="contents"><summary>Contents</summary><ol>{items}</ol></details>'
    soup.find("div", class_="cell").insert_after(BeautifulSoup(contents, "html.parser"))


def _write(path, template, **values):
    page = environment().get_template(f"{template}.html.j2").render(values)
    if references := external_references(page):
        raise NotebookError(
            f"{path.name} would need the network: {', '.join(references)}.",
            "a notebook shows a picture, style or script by its address",
            "embed it in the notebook",
        )
    path.write_text(page, encoding="utf-8")
