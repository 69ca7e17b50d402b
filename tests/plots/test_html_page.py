"""A template with its data is one file that needs no network."""

import json
import math
import re

import pytest

from hpt.plots.html_page import plain, write_html_page


def test_numbers_that_json_lacks():
    value = {"a": math.nan, "b": [math.inf, -math.inf], "c": (1.23456789, 3, "x"), "d": {"e": True}}
    assert plain(value) == {"a": None, "b": [1e308, -1e308], "c": [1.234568, 3, "x"], "d": {"e": True}}
    assert json.dumps(plain(value), allow_nan=False)


@pytest.mark.parametrize("template", ["phases.html", "play.html"])
def test_a_page_is_one_file_without_network(template, tmp_path):
    path = write_html_page(template, {"title": "</script><b>"}, tmp_path / "new" / "page.html")
    text = path.read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href|url|import)\s*[=(]\s*[\"']?\s*(?:https?:)?//", text)
    assert text.count("</script>") == 1 and "/*DATA*/" not in text and "/*CHART*/" not in text
    assert "function frame(" in text
