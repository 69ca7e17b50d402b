"""The report: one HTML page a notebook and an index, readable with the network off.

Formulas become MathML while the page is made, pictures and styles are embedded, and these pages
have no script at all.
"""

from __future__ import annotations

import base64
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import nbformat
import pandas as pd
from bs4 import BeautifulSoup
from markupsafe import Markup
from nbconvert.exporters import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from pygments.formatters import HtmlFormatter

from hpt.errors import NotebookError
from hpt.notebooks.rendering import glued, mathml, with_math
from hpt.notebooks.runner import NotebookResult
from hpt.notebooks.source import header, read_notebook

_HERE = Path(__file__).parent
_LIVE = ("application/vnd.jupyter.widget-view+json", "application/javascript")
_STATIC = ("text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg")
_NO_PICTURE = '<p class="note">An interactive part stands here: open the notebook in JupyterLab to use it.</p>'
_LABELS = {
    "parameterization": "variant",
    "lr": "η",
    "log2_lr": "log₂ η*",
    "loss": "L* (nats)",
    "E": "E (nats)",
    "E_extrap": "E, left out (nats)",
    "octave_error": "η* off by (octaves)",
    "kappa": "κ",
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "gamma_log": "γ_log",
    "R": "R(∞) (nats)",
    "n": "runs",
    "edge": "at grid edge",
}
_COMPANIONS = ("low", "high", "determined", "reason", "method", "n")
_VERDICTS = {
    "bad": r"no\b(?! )|(not (seen|replic|confirm)|fail|contradict|refut|disagree)",
    "good": r"yes|hold|seen|confirm|replicat|agree",
}


def write_report(
    results: Sequence[NotebookResult],
    out_dir: str | os.PathLike,
    *,
    facts: Mapping[str, Any],
    claims: pd.DataFrame | None = None,
    summary_tables: Mapping[str, pd.DataFrame] | None = None,
    more: Mapping[str, str] | None = None,
    title: str = "",
    about: str = "",
) -> Path:
    """Write ``NAME.html`` for each notebook and ``index.html`` into ``out_dir``; the path of the
    index.

    Parameters
    ----------
    facts: what the run ran on and with; keys become labels (``data_fingerprint`` → "data
        fingerprint").
    claims: columns such as claim, paper says, what came out, verdict.
    summary_tables: caption → table, shown as :func:`table_html` says.
    more: further pages of ``out_dir`` that the index links to: file name → what it shows.
    title, about: head of the index, with ``$…$`` for formulas; there is a default.

    Raises
    ------
    NotebookError: if a page would need the network.
    """
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    (out_dir / "index.html").unlink(
        missing_ok=True
    )  # written last: it is there only if every page is
    pages = [
        {"result": result, "title": head["Title"] or result.name, "question": head["Question"]}
        for result in results
        for head in [header(read_notebook(result.output))]
    ]
    templates = _templates()
    for i, (result, page) in enumerate(zip(results, pages, strict=True)):
        _write(
            out_dir / f"{result.name}.html",
            templates.get_template("page.html.j2").render(
                i=i,
                pages=pages,
                result=result,
                title=page["title"],
                body=Markup(_body(result, results)),
            ),
        )
    return _write(
        out_dir / "index.html",
        templates.get_template("index.html.j2").render(
            pages=pages,
            facts=facts,
            claims=claims,
            tables=summary_tables,
            more=more,
            title=title,
            about=about,
        ),
    )


def table_html(table: pd.DataFrame) -> str:
    """A table as HTML; numbers stand to the right, and on a phone a wide table becomes one card per
    row.

    Columns ``x_low`` and ``x_high`` beside ``x`` are shown as its interval, ``x_determined`` and
    ``x_reason`` (for the whole row ``determined`` and ``reason``) as a remark; ``verdict`` is
    coloured. ``$…$`` in text is a formula.
    """
    if any(table.index.names):
        table = table.reset_index()
    table = table.rename(columns=str)
    names = [name for name in table.columns if not _is_companion(name, table.columns)]
    numeric = {
        name: pd.api.types.is_numeric_dtype(table[name])
        and not pd.api.types.is_bool_dtype(table[name])
        for name in names
    }
    places = {name: _places(table[name]) for name in names if numeric[name]}
    columns = [
        {
            "numeric": numeric[name],
            "label": "R(n) (nats)"
            if name == "R" and "width" in names
            else _LABELS.get(name, name.replace("_", " ")),
        }
        for name in names
    ]
    rows = [
        [Markup(_cell(name, row, places.get(name))) for name in names]
        for _, row in table.iterrows()
    ]
    return _templates().get_template("table.html.j2").render(columns=columns, rows=rows)


def external_references(page: str) -> list[str]:
    """Everything in an HTML page that a browser would fetch from the network; links to follow
    (``<a>``) are free."""
    soup, found = BeautifulSoup(page, "html.parser"), []
    styles = [style.get_text() for style in soup.find_all("style")]
    for tag in soup.find_all(True):
        styles.append(str(tag.get("style", "")))
        for name in (
            "src",
            "srcset",
            "href",
            "xlink:href",
            "data",
            "poster",
            "background",
            "action",
        ):
            text = str(tag.get(name, ""))
            if not (tag.name == "a" and name == "href") and re.search(
                r"(^|[\s,])(\w+:)?//", text[:2000]
            ):
                found.append(f"<{tag.name} {name}={text[:80]!r}>")
    for style in styles:
        found += re.findall(r"url\(\s*['\"]?(?!data:|#)[^)]*\)|@import[^;]*", style)
    return found


def duration(seconds: float) -> str:
    """Seconds as people read them: "0.8 s", "42 s", "3 min 12 s", "2 h 05 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class _Renderer(IPythonRenderer):
    """Markdown to HTML with formulas as MathML."""

    def block_html(self, html: str) -> str:
        # Embedding images re-parses each block on its own, which would close a <details> before its
        # content.
        return super().block_html(html) if "<img" in html else html

    def inline_math(self, body: str) -> str:
        return mathml(body)

    def block_math(self, body: str) -> str:
        return mathml(body, display=True)

    def latex_environment(self, name: str, body: str) -> str:
        return mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", display=True)


class _Exporter(HTMLExporter):
    """The cells of a notebook as an HTML fragment, from templates/notebook."""

    @jinja2.pass_context
    def markdown2html(self, context: jinja2.runtime.Context, source: str) -> str:
        renderer = _Renderer(
            escape=False,
            embed_images=True,
            path=context["resources"]["metadata"]["path"],
            attachments=context["cell"].get("attachments", {}),
        )
        return MarkdownWithMath(renderer=renderer).render(source)


def _body(result: NotebookResult, results: Iterable[NotebookResult]) -> str:
    """The cells of one executed notebook as HTML, with links between notebooks led to their
    pages."""
    exporter = _Exporter(
        template_name="notebook", extra_template_basedirs=[str(_HERE / "templates")]
    )
    exporter.register_filter("duration", duration)
    resources = {"metadata": {"path": str(result.source.parent), "name": result.name}}
    body, _ = exporter.from_notebook_node(_static(read_notebook(result.output)), resources)
    soup, known = BeautifulSoup(body, "html.parser"), {other.name for other in results}
    for link in soup.find_all("a", href=re.compile(r"^(?!\w+:|#|//)")):
        target, _, part = str(link["href"]).partition("#")
        name = target.removeprefix("./").removesuffix(".ipynb")
        if target.endswith(".ipynb") and name in known:
            link["href"] = f"{name}.html" + (f"#{part}" if part else "")
        else:
            link.unwrap()  # it leads to a file that is not beside the report
    headings = [h for h in soup.find_all("h2") if h.get("id")]
    if len(headings) > 2:
        texts = ["".join(str(part) for part in h.contents if part.name != "a") for h in headings]
        items = "".join(
            f'<li><a href="#{h["id"]}">{text}</a></li>'
            for h, text in zip(headings, texts, strict=True)
        )
        contents = (
            f'<details class="contents"><summary>Contents</summary><ol>{items}</ol></details>'
        )
        soup.find("div", class_="cell").insert_after(BeautifulSoup(contents, "html.parser"))
    return glued(str(soup))


def _static(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with outputs that need no kernel: no widget, no script, formulas as HTML."""
    marker = "papermill-error-cell-tag"
    notebook.cells = [
        cell for cell in notebook.cells if marker not in cell.metadata.get("tags", ())
    ]
    notebook.metadata.pop("widgets", None)
    for output in [output for cell in notebook.cells for output in cell.get("outputs", [])]:
        if output.output_type not in ("display_data", "execute_result"):
            continue
        output.output_type, data = "display_data", output.data
        if "text/latex" in data and not any(mime in data for mime in _STATIC):
            tex = data["text/latex"].strip().strip("$").removeprefix("\\displaystyle")
            data["text/html"] = mathml(tex, display=True)
        needs_kernel = [data.pop(mime, None) for mime in _LIVE]
        if any(needs_kernel) and not any(mime in data for mime in _STATIC):
            data["text/html"] = _NO_PICTURE
        if "image/png" in data:
            start = base64.b64decode(
                data["image/png"][:32]
            )  # a PNG has its width and height at bytes 16 and 20
            output.metadata["wide"] = int.from_bytes(start[16:20], "big") > 1.8 * int.from_bytes(
                start[20:24], "big"
            )
        data.pop("text/latex", None)
        data.setdefault("text/plain", "")
    return notebook


def _is_companion(name: str, names: Iterable[str]) -> bool:
    """Whether a column is shown with another one: interval, flag or reason."""
    base, _, kind = name.rpartition("_")
    return (base in names and kind in _COMPANIONS) or (name == "reason" and "determined" in names)


def _places(column: pd.Series) -> int | None:
    """Decimals that suit a whole column, or None where its values span too many powers of ten for
    that."""
    if column.name == "log2_lr":
        return 2
    sizes = [abs(float(value)) for value in column.dropna() if value and math.isfinite(value)]
    if not sizes or pd.api.types.is_integer_dtype(column):
        return 0
    power = math.floor(math.log10(max(sizes)))
    if abs(power) > 4 or (power < 0 and max(sizes) > 10 * min(sizes)):
        return None
    return max(0, 3 - power) if power >= 0 else max(3, 1 - power)


def _figure(value: float, places: int | None, digits: int = 3) -> str:
    if pd.isna(value) or math.isinf(value):
        return "–" if pd.isna(value) else "∞" if value > 0 else "−∞"
    return (f"{value:.{digits}g}" if places is None else f"{value:.{places}f}").replace("-", "−")


def _cell(name: str, row: pd.Series, places: int | None) -> str:
    value = row[name]
    if name == "verdict":
        kind = next(
            (kind for kind, words in _VERDICTS.items() if re.match(words, str(value).lower())),
            "open",
        )
        return f'<span class="verdict {kind}">{with_math(value)}</span>'
    if pd.api.types.is_bool(value):
        why = with_math(row.get("reason", "")) if name == "determined" and not value else ""
        return ("yes" if value else "no") + (f'<span class="why">{why}</span>' if why else "")
    if not pd.api.types.is_number(value):
        return "–" if value is None or value is pd.NA or value == "" else with_math(_plain(value))
    text, low, high = _figure(value, places), row.get(f"{name}_low"), row.get(f"{name}_high")
    if not (pd.isna(low) or pd.isna(high)):
        text += (
            f' <span class="range">{_figure(low, places, 2)} … {_figure(high, places, 2)}</span>'
        )
    if not row.get(f"{name}_determined", True):
        reason = with_math(row.get(f"{name}_reason") or "not determined")
        text = f'<span class="weak">{text}</span><span class="why">{reason}</span>'
    return text


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {_plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return f"{value:,}" if type(value) is int else str(value)


def _write(path: Path, page: str) -> Path:
    if references := external_references(page):
        raise NotebookError(
            f"{path.name} would need the network: {', '.join(references)}.",
            "a notebook shows a picture, style or script by its address",
            "embed it in the notebook",
        )
    path.write_text(page, encoding="utf-8")
    return path


@cache
def _templates() -> jinja2.Environment:
    """The templates with their filters; every page carries report.css and the colours of the code
    in it."""
    light, dark = (
        HtmlFormatter(style=style).get_style_defs(".highlight")
        for style in ("friendly", "github-dark")
    )
    css = f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n" + (
        _HERE / "templates" / "report.css"
    ).read_text("utf-8")
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"), autoescape=True
    )
    templates.globals["css"] = Markup(css)
    templates.filters |= {
        "duration": duration,
        "plain": _plain,
        "math": lambda text: Markup(with_math(text)),
        "table": lambda table: Markup(table_html(table)),
    }
    return templates
