"""Values as HTML: formulas as MathML, which browsers show without a script or the network, and
tables, with the environment that the templates are rendered in."""

from __future__ import annotations

import html
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import jinja2
import math_core
import pandas as pd
from markupsafe import Markup
from pandas.api.types import is_integer_dtype
from pygments.formatters import HtmlFormatter

from hpt.metrics.quantities import QUANTITIES, signs
from hpt.study.cost import duration

_CONVERTER = math_core.LatexToMathML(fancy_error=False)
#: How columns are headed that are no quantities.
_WORDS = {"parameterization": "variant", "n": "runs", "edge": "at grid edge"}
#: Endings of columns that are shown with another, or not at all.
_COMPANIONS = ("low", "high", "determined", "reason", "method", "n")


def mathml(tex: str, display: bool = False) -> str:
    """A TeX formula as MathML; one that cannot be read is shown as typed, with a warning."""
    try:
        formula = _CONVERTER.convert_with_local_state(tex, displaystyle=display)
    except math_core.LatexError as error:
        warnings.warn(f"the formula {tex!r} cannot be set: {error}", UserWarning, stacklevel=2)
        return f'<code class="tex">{html.escape(tex)}</code>'
    # browsers do not break formulas: a long one scrolls
    if len(tex) > 40 and not display:
        return formula.replace("<math", '<math class="long"', 1)
    return formula


def with_math(text: str) -> Markup:
    """Plain text as HTML, with its ``$…$`` as formulas."""
    parts = re.split(r"\$([^$]+)\$", signed(text))
    parts[::2] = map(html.escape, parts[::2])
    parts[1::2] = map(mathml, parts[1::2])
    return Markup(glued("".join(parts)))


def signed(text: str) -> str:
    """A text with a true minus before its numbers."""
    return re.sub(r"(?<![\w.)\]])-(?=\d)", "−", text)


def glued(markup: str) -> str:
    """Keep brackets and punctuation on the line of the formula that they touch, where browsers
    would break it."""
    return re.sub(
        r"[(\[]*<math>(?:(?!</math>).)*</math>[)\].,;:!?]*", r'<span class="fixed">\g<0></span>', markup
    )


def table_html(table: pd.DataFrame) -> Markup:
    """A table as HTML; numbers stand to the right, and on a phone a wide table becomes one card per
    row.

    Columns ``x_low`` and ``x_high`` beside ``x`` are shown as its interval, ``x_determined`` and
    ``x_reason`` (for the whole row ``determined`` and ``reason``) as a remark. ``$…$`` in text is a
    formula.
    """
    if any(table.index.names):
        table = table.reset_index()
    table = table.rename(columns=str)
    formats = {name: _format(table[name]) for name in table.select_dtypes("number")}
    labels = {name: label(name, list(table)) for name in table}
    return rendered(table.to_dict("records"), labels, formats)


def rendered(records: list[dict], labels: dict[str, str], formats: dict[str, str]) -> Markup:
    """Rows as the HTML of :func:`table_html`.

    Parameters
    ----------
    records: rows; a value is a number, a truth, a text or nan.
    labels: how each column is headed.
    formats: how the numbers of a column are written, for each that stands to the right.
    """
    companions = {f"{name}_{ending}" for name in labels for ending in _COMPANIONS}
    if "determined" in labels:
        companions.add("reason")
    shown = [name for name in labels if name not in companions and _tells(name, records)]
    columns = [(labels[name], name in formats) for name in shown]
    rows = [[_cell(row, name, formats.get(name, ".3g")) for name in shown] for row in records]
    template = environment().get_template("table.html.j2")
    return Markup(template.render(columns=columns, rows=rows))


def plain(value: Any) -> str:
    """A value as text: the items of a list or a mapping, integers in groups of three digits."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    return f"{value:,}" if type(value) is int else str(value)


@cache
def environment() -> jinja2.Environment:
    """What the templates of the pages are rendered in."""
    templates = jinja2.Environment(loader=jinja2.PackageLoader("hpt.notebooks"), autoescape=True)
    templates.globals.update(HtmlFormatter=HtmlFormatter)
    templates.filters.update(duration=duration, plain=plain, math=with_math, table=table_html)
    return templates


def _tells(name, records):
    """Whether a column says anything: not where every row is determined, or none has a value."""
    silent = {"True"} if name == "determined" else {"", "nan", "None"}
    said = {str(row[name]) for row in records}
    return not records or not said <= silent


def label(name: str, names: Sequence[str]) -> str:
    """How a column is headed among others."""
    if name == "R" and "width" in names:
        name = "R_n"
    if name in QUANTITIES:
        return QUANTITIES[name].labelled()
    return _WORDS.get(name, name.replace("_", " "))


def _format(column):
    """How a column's numbers are written: in decimals that suit all of them, or in digits where
    they span too many powers of ten for that."""
    if column.name == "log2_lr":
        return ".2f"
    size = column.abs()
    size = size[size.between(0, math.inf, inclusive="neither")]
    if size.empty or is_integer_dtype(column):
        return ".0f"
    largest = size.max()
    power = math.floor(math.log10(largest))
    if abs(power) > 4 or (power < 0 and largest > 10 * size.min()):
        return ".3g"
    return f".{max(0, min(3, 3 - power), 1 - power)}f"


def _cell(row, name, form):
    """A cell's text, its interval and its remark."""
    value = row[name]
    text = "" if value is None or value is pd.NA else plain(value)
    if isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, (int, float)):
        text = _number(value, form)
    return text or "–", _interval(row, name, form), _remark(row, name)


def _interval(row, name, form):
    """The ends of a cell's interval, in two digits where the estimate has three."""
    ends = [row.get(f"{name}_{end}", math.nan) for end in ("low", "high")]
    if any(end != end for end in ends):
        return ""
    return " … ".join(_number(end, form.replace("3g", "2g")) for end in ends)


def _remark(row, name):
    """Why a cell is not determined, "" where it is."""
    if name == "determined":
        return "" if row[name] else row.get("reason", "")
    if row.get(f"{name}_determined", True):
        return ""
    return row.get(f"{name}_reason") or "not determined"


def _number(value, form):
    if isinstance(value, str):
        return value
    return signs(f"{value:z{form}}").replace("nan", "–")
