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
_BASE = re.compile(r"(?<=\d)_\{?(\d+)")
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


def _repeating(match: re.Match) -> str:
    """0.5\\overline{3} is 48/90: (53 - 5) / (100 - 10)."""
    whole, fixed, repeated = match.groups()
    top = int(whole + fixed + repeated) - int((whole + fixed) or 0)
    return rf"\frac{{{top}}}{{{10 ** len(fixed + repeated) - 10 ** len(fixed)}}}"


def _formula(text: str) -> str:
    """One LaTeX formula, in dollars, of an expression in LaTeX or as people type it."""
    text = re.sub(r"(\d{0,50})\.(\d{0,50})\\(?:overline|bar)\s*\{(\d{1,50})\}", _repeating, text)
    for pattern, new in _SPELLINGS:
        text = pattern.sub(new, text)
    return f"${text.strip()}$"


def equal(given: str, truth: str) -> bool:
    """Is `given` the same as `truth`? What cannot be parsed is not. Raises whatever the comparison raises."""
    bases = [set(_BASE.findall(e)) for e in (given, truth)]
    if all(bases) and bases[0] != bases[1]:   # 101_2 and 101_3: the parser would drop the base
        return False
    from math_verify import LatexExtractionConfig, parse, verify  # half a second, which most processes need not pay

    logging.getLogger("math_verify").setLevel(logging.ERROR)   # it warns that its limits are off
    config = [LatexExtractionConfig(boxed_match_priority=-1)]
    parsed = [parse(_formula(e), config, fallback_mode="no_fallback", parsing_timeout=None) for e in (truth, given)]
    return all(parsed) and verify(*parsed, timeout_seconds=None, raise_on_error=True)
