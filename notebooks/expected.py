"""What we expected of a reference study, and what came out, as tables: for notebooks 06 to 09."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
from pandas.io.formats.style import Styler

from hpt.notebooks.expectations import Outcome
from hpt.study import reference_definition


def expected(*studies: str) -> Styler:
    """Each question and what was expected, as it was written down before the runs, by study."""
    rows = [
        {"study": name.replace("_", " "), "question": asked["question"], "expected": asked["expected"]}
        for name in studies
        for asked in reference_definition(name)["expected"].values()
    ]
    return pd.DataFrame(rows).set_index("study").style


def came_out(outcomes: Iterable[Outcome]) -> Styler:
    """Each question with what was expected, what came out and the verdict; no text is cut."""
    return pd.DataFrame(map(vars, outcomes)).set_index("question").style
