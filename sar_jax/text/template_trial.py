"""Runs a chat template within limits, in a process of its own. No JAX, no transformers.

    python -m sar_jax.text.template_trial < JSON

JSON     {"template": text, "variables": {...}, "chats": [[message, ...], ...]}
stdout   which limit was passed, as words; empty where none was

The environment is as wide as that of `transformers`, and starts in a tenth of its time. An error
that is no limit's is not told: who renders the template afterwards meets it again.
"""

import contextlib
import datetime
import json
import resource
import sys
from typing import Any

import jinja2
import jinja2.ext
import jinja2.sandbox

SECONDS = 5  # of processor time
MEMORY = 2**30  # bytes of address space
LENGTH = 2**20  # characters of a rendered chat, beyond the messages' own


class _Generation(jinja2.ext.Extension):
    """{% generation %} ... {% endgeneration %}, which marks text and leaves it as it is."""

    tags = {"generation"}

    def parse(self, parser: Any) -> Any:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _environment() -> jinja2.Environment:
    made = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    made.filters["tojson"] = lambda value, **options: json.dumps(value, **options)
    made.globals["raise_exception"] = _raise
    made.globals["strftime_now"] = lambda format: datetime.datetime.now().strftime(format)
    return made


def run(template: str, variables: dict[str, Any], chats: list[list[dict[str, Any]]]) -> str:
    """Renders each chat with and without the header of an answer; see above."""
    try:
        compiled = _environment().from_string(template)
    except MemoryError:
        return _memory()
    except Exception:
        return ""
    for chat in chats:
        for opened in (True, False):
            # a template may refuse one chat and be slow with the next
            with contextlib.suppress(Exception):
                try:
                    text = compiled.render(
                        messages=chat,
                        tools=None,
                        documents=None,
                        add_generation_prompt=opened,
                        **variables,
                    )
                except MemoryError:
                    return _memory()
                if len(text) > LENGTH + len(str(chat)):
                    return f"makes a text of more than {LENGTH} characters of a short question"
    return ""


def _memory() -> str:
    return f"takes more than {MEMORY >> 20} MiB of memory"


def main() -> None:
    """See above."""
    given = json.load(sys.stdin)
    for limit, value in (
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CORE, 0),
    ):
        # there may be a lower limit already; macOS has none for memory
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(limit, (value, value))
    print(run(given["template"], given["variables"], given["chats"]), end="")


if __name__ == "__main__":
    main()
