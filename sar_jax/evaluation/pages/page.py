"""One self-contained HTML file: style, script and data inside, nothing fetched.

What people and models wrote travels as JSON, and the script puts it into the page as text: no text
becomes markup.
"""

import html
import importlib.resources
import json
import math
import string
from collections.abc import Sequence
from typing import Any

_PAGE = string.Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<title>$title</title>
<style>
$style
</style>
</head>
<body>
<header><h1>$title</h1></header>
<main id="main">$main</main>
$script
</body>
</html>
"""
)
_SCRIPT = string.Template(
    """<script type="application/json" id="data">$data</script>
<script>
$script
</script>"""
)


def page(title: str, data: Any, scripts: Sequence[str]) -> str:
    """The text of a page.

    title     of the window, and the page's heading
    data      what JSON can hold; a number that is not finite becomes null
    scripts   names of files in this folder, which run in this order and read `data`
    """
    script = _SCRIPT.substitute(script="\n".join(map(_file, scripts)), data=as_json(data))
    return _PAGE.substitute(
        title=html.escape(title), style=_file("style.css"), main="", script=script
    )


def still_page(title: str, main: str) -> str:
    """The text of a page without a script. main: its HTML, in which every text is escaped."""
    return _PAGE.substitute(
        title=html.escape(title), style=_file("style.css"), main=main, script=""
    )


def as_json(data: Any) -> str:
    """JSON that may stand inside a script element: it cannot end it, nor open a comment."""
    text = json.dumps(_finite(data), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {str(key): _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return data


def _file(name: str) -> str:
    return (importlib.resources.files(__package__) / name).read_text(encoding="utf-8")
