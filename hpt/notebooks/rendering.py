"""TeX formulas as MathML, which browsers show without a script or the network."""

from __future__ import annotations

import html
import re
import warnings
from functools import cache

import math_core


def mathml(tex: str, display: bool = False) -> str:
    """A TeX formula as MathML; one that cannot be read is shown as typed, with a warning."""
    try:
        formula = _converter().convert_with_local_state(tex, displaystyle=display)
    except math_core.LatexError as error:
        warnings.warn(f"the formula {tex!r} cannot be set: {error}", UserWarning, stacklevel=2)
        return f'<code class="tex">{html.escape(tex)}</code>'
    long = not display and len(tex) > 40  # browsers do not break formulas: a long one scrolls
    return formula.replace("<math", '<math class="long"', 1) if long else formula


def with_math(text: str) -> str:
    """Plain text as HTML, with its ``$…$`` as formulas."""
    parts = re.split(r"\$([^$]+)\$", str(text))
    return glued(
        "".join(mathml(part) if i % 2 else html.escape(part) for i, part in enumerate(parts))
    )


def glued(markup: str) -> str:
    """Keep brackets and punctuation on the line of the formula that they touch, where browsers
    would break it."""
    return re.sub(
        r"[(\[]*<math>(?:(?!</math>).)*</math>[)\].,;:!?]*",
        r'<span class="fixed">\g<0></span>',
        markup,
    )


@cache
def _converter() -> math_core.LatexToMathML:
    return math_core.LatexToMathML(fancy_error=False)
