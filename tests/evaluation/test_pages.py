"""Pages to look at: nothing fetched, text stays text, colours that everybody can read."""

import json
import math
import re
import sys

import numpy as np
import pytest
from rich.console import Console

from sar_jax.errors import UserError
from sar_jax.evaluation.pages import heatmap, page

EVIL = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>\u202egnp.\u202c\"'&\x00"


def scored(answer="It is 5.", values=(2.0, -4.0, 0.5), **more):
    """A row as `sar_jax.explain` writes it."""
    pieces = [answer[i::3] for i in range(3)]
    row = dict(question="2 + 3?", answer=answer, ppl_conditional=1.25, ppl_standalone=2.5)
    row |= dict(self_aligned=0.5, tokens=pieces, token_values=list(values))
    return row | dict(token_logps=[-0.1] * 3, token_logps_standalone=[-0.3] * 3) | more


def embedded(text: str) -> dict:
    """The data of a page, read as a browser finds it: up to the first end of a script."""
    begin = text.index('id="data">') + len('id="data">')
    return json.loads(text[begin : text.index("</script>", begin)])


def test_text_of_others_is_data_and_nothing_else():
    rows = [scored(EVIL, id=EVIL, truth=EVIL, question=EVIL)]
    text = heatmap.answers_page(f"runs/{EVIL}", rows)
    assert text.count("<script") == 2 and text.count("</script>") == 2  # the data, and our own
    assert "<img" not in text and "<!--" not in text
    (found,) = embedded(text)["answers"]
    assert found["answer"] == found["id"] == found["question"] == EVIL
    assert "".join(found["tokens"]) == "".join(rows[0]["tokens"])


def test_a_page_fetches_nothing():
    text = heatmap.answers_page("answers", [scored()])
    assert not re.search(r"https?:|//[a-z]|url\(|@import|src=|href=", text)
    assert "default-src 'none'" in text


def test_what_is_not_finite_is_null_and_other_fields_are_left_out():
    values, secret = (math.nan, math.inf, 1.0), object()
    row = scored(values=values, self_aligned=-math.inf, custom=secret)
    (found,) = embedded(heatmap.answers_page("x", [row]))["answers"]
    assert found["token_values"] == [None, None, 1.0] and found["self_aligned"] is None
    assert "custom" not in found


def luminance(colour: str) -> float:
    """Of WCAG 2.1, relative."""
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    r, g, b = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    a, b = sorted(map(luminance, (one, other)), reverse=True)
    return (a + 0.05) / (b + 0.05)


@pytest.mark.parametrize("palette, text", [(heatmap.LIGHT, "#111418"), (heatmap.DARK, "#eceff3")])
def test_every_token_can_be_read(palette, text):
    """AA of WCAG 2.1 is 4.5; the text's colours are those of the style."""
    assert f"--text: {text}" in page._file("style.css")
    for value in np.linspace(-9, 9, 181):
        assert contrast(heatmap.colour(value, palette), text) >= 4.5


def test_the_colours_of_the_style_can_be_read():
    """Each scheme's text on its backgrounds."""
    style = page._file("style.css")
    dark = style.index("prefers-color-scheme")
    for part in (style[:dark], style[dark:]):
        found = dict(re.findall(r"--(\w+): (#\w{6})", part))
        for name in ("text", "dim", "accent", "right", "wrong"):
            for back in ("back", "card"):
                assert contrast(found[name], found[back]) >= 4.5, (name, back)


def test_colours_say_sign_and_size():
    blue, orange = (heatmap.colour(v) for v in (9.0, -9.0))
    assert heatmap.colour(0.0) == heatmap.colour(math.nan) == "#ffffff"
    parts = lambda c: [int(c[i : i + 2], 16) for i in (1, 3, 5)]
    assert parts(blue)[2] > parts(blue)[0] and parts(orange)[0] > parts(orange)[2]
    assert heatmap.colour(heatmap.FULL) == blue != heatmap.colour(heatmap.FULL / 2)
    reds = [parts(heatmap.colour(v))[0] for v in np.linspace(0, 3, 20)]
    assert reds == sorted(reds, reverse=True)


def test_characters_without_a_shape_are_spelled():
    shown = heatmap.visible("a\u202eb\x00\t \n\u200d\u00e9\u4e2d")
    assert (
        shown
        == "a\u27e8U+202E\u27e9b\u27e8U+0000\u27e9\u21e5 \u23ce\n\u27e8U+200D\u27e9\u00e9\u4e2d"
    )


def test_a_terminal_shows_each_token_in_its_colour_and_the_numbers():
    console = Console(force_terminal=True, color_system="truecolor", width=80, record=True)
    with console.capture() as captured:
        console.print(heatmap.terminal_text(scored("[red]x[/red] \x1b[31m")))
    text = captured.get()
    assert "R_SA +0.500" in text and "ppl(a) 2.500" in text and "ppl(a|q) 1.250" in text
    for value in (2.0, -4.0, 0.5):
        rgb = ";".join(str(int(heatmap.colour(value)[i : i + 2], 16)) for i in (1, 3, 5))
        assert f"48;2;{rgb}m" in text
    assert "\x1b[31m" not in text  # an answer's own escapes are spelled


def test_lines_of_a_picture_hold_every_character_once():
    tokens, values = ["ab\ncd", "e" * 25, "", "f"], [1.0, 2.0, 3.0, -1.0]
    lines = heatmap._filled(tokens, values, 10)
    assert all(sum(len(piece) for piece, _ in line) <= 10 for line in lines)
    assert "".join(piece for line in lines for piece, _ in line) == "ab\u23cecd" + "e" * 25 + "f"


def test_a_picture_is_drawn(tmp_path):
    heatmap.picture([scored("a $x_$ \\frac \u4e2d", id=1), scored()], tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_picture_without_matplotlib_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # what an import then finds
    with pytest.raises(UserError, match=r"pip install 'sar_jax\[plot\]'"):
        heatmap.picture([scored()], tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
