r"""Which final answers count as one number, as the mathematics sets keep them.

They are boxed, at most 20 characters long, and numeric. A unit, a degree or a percent sign after
the number is left out ("5 \text{ cm}" is 5). Not numeric: intervals, pairs, roots, pi, letters,
other bases, "x = 5".
"""

import re

from sar_jax.text.answers import judge

LONGEST = 20  # characters, as published between the braces
_UNIT = re.compile(
    r"(\\ |~|\s)*\\(?:text|textbf|mathrm|mbox)\{[^{}]*\}(\^(\d|\{\d\}))?$|(\^\\circ|\^\{\\circ\})$"
)
_SHORT_FRACTION = re.compile(r"(\\[dt]?frac)\s*(\d)\s*(\d)(?!\d)")  # \frac12
_OPEN_BOX = re.compile(r"\\boxed\s+([^\s${}]+)\s*\$")  # \boxed 5$


def boxed(solution: str) -> str | None:
    """What the last box of a worked answer holds, or None without one."""
    solution = solution.replace("\\fbox{", "\\boxed{")
    if (content := judge.boxed(solution)) is not None:
        return content.strip()
    return found[-1] if (found := _OPEN_BOX.findall(solution)) else None


def numeric(answer: str) -> str | None:
    """The number of a final answer, as text that `judge` reads; None if it is none or too long."""
    answer = answer.strip()
    if len(answer) > LONGEST:
        return None
    number = _SHORT_FRACTION.sub(r"\1{\2}{\3}", _UNIT.sub("", answer)).strip()
    return number if judge.number(number) is not None else None
