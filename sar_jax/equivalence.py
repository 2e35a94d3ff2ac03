"""Are two expressions equal? By math-verify, on sympy: roots, pi, sets, intervals, matrices, polynomials. No JAX.

The answers are extracted already, so each expression is handed over as one formula, in LaTeX or as people type it
("sqrt(2)", "2*pi"). `equal` has no time limit and may take any amount of memory ("9**9**9**9"): call it where it can be
killed. math-verify's own limits are off: they are signals, which work in a process's main thread only and cannot stop C
code. Decimals count as equal to an irrational number when they agree to six places.
"""

import logging
import re

_COMMAND = re.compile(r"\\[a-zA-Z]+\*?(?:\s*\{(?:[a-z]?matrix|array|cases)\}(?:\{[lcr|]*\})?)?")
_NAMES = re.compile(r"\b(?:arc)?(?:sin|cos|tan|sec|csc|cot)h?\b|\b(?:log|exp|sqrt|infinity|infty)(?![a-z])")
_SPELLINGS = [(re.compile(pattern), new) for pattern, new in (
    (r"\$|\n", " "), (r"(?<=[\d})])\s+(?:and|or)\s+(?=[\d\\-])", ","), (r"\*\*", "^"),
    (r"(?<!\\)\bsqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
    (r"√\s*(\d+|[a-z]|\([^()]*\))", r"\\sqrt{\1}"), (r"(?<![\\a-zA-Z])(?:pi(?![a-z])|π)|π", r"\\pi "),
    (r"(?<![\\a-zA-Z])(?:oo|inf|infty|infinity)(?![a-z])|∞", r"\\infty "), (r"(?<!\\)\*|×|·", r"\\cdot "),
    (r"<=|≤", r"\\leq "), (r">=|≥", r"\\geq "), (r"∪", r"\\cup "), (r"∈", r"\\in "), (r"±", r"\\pm "),
    (r"(?<!\\)\b(sin|cos|tan|log|ln|exp)\b", r"\\\1"))]


def is_expression(text: str) -> bool:
    """Is it worth computer algebra? Words are not: as products of letters, "act" would equal "cat"."""
    without_text = re.sub(r"\\(?:text|mathrm|mbox)\s*\{[^{}]*\}", " ", text)
    bare = _NAMES.sub(" ", _COMMAND.sub(" ", without_text))
    signs = re.search(r"[\d\\^_+*/=<>(\[|√π∞-]", without_text) is not None
    return not re.search(r"[^\W\d_]{4,}", bare) and (signs or re.fullmatch(r"\W*[a-zA-Z]{1,2}\W*", bare) is not None)


def _formula(text: str) -> str:
    for pattern, new in _SPELLINGS:
        text = pattern.sub(new, text)
    return f"${text.strip()}$"


def equal(given: str, truth: str) -> bool:
    """Is `given` the same as `truth`? What cannot be parsed is not. Raises whatever the comparison raises."""
    # Half a second, which most processes need not pay.
    from math_verify import LatexExtractionConfig, parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)   # it warns that its limits are off
    config = [LatexExtractionConfig(boxed_match_priority=-1)]
    parsed = [parse(_formula(e), config, fallback_mode="no_fallback", parsing_timeout=None) for e in (truth, given)]
    return all(parsed) and verify(*parsed, timeout_seconds=None, raise_on_error=True)
