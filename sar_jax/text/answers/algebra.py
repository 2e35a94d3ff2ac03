"""Are two expressions equal? Decided by math-verify, on sympy. No JAX.

It knows roots, pi, sets, intervals, matrices and polynomials. The answers are extracted already, so
each expression is handed over as one formula, in LaTeX or as people type it ("sqrt(2)", "2*pi").
Decimals count as equal to an irrational number when they agree to six places, and to five digits.

`equal` has no time limit and may take any amount of memory ("9**9**9**9"): call it where it can be
killed. math-verify's own limits are off: they are signals, which work in a process's main thread
only and cannot stop C code.
"""

import itertools
import logging
import re
from typing import Any

_COMMAND = re.compile(r"\\[a-zA-Z]+\*?(?:\s*\{(?:[a-z]?matrix|array|cases)\}(?:\{[lcr|]*\})?)?")
_NAMES = re.compile(
    r"\b(?:arc)?(?:sin|cos|tan|sec|csc|cot)h?\b|\b(?:log|exp|sqrt|infinity|infty)(?![a-z])"
)
_DEEPEST = 12  # brackets within each other
_PRIME = re.compile(r"'|\\prime")
_RELATION = re.compile(r"[<>≤≥]|\\(?:leq?|geq?|lt|gt)(?:slant)?(?![a-zA-Z])|\\in(?![a-zA-Z])")
_CONDITIONS = re.compile(
    r"\s*(?:\\text\s*\{\s*or\s*\}|\bor\b|\\lor(?![a-z])|\\vee(?![a-z]))\s*"
    r"|(?=\\\{\s*\w[^,]*(?:\||:|\\mid))"
)
_BUILDER = re.compile(
    r"^\\?\{\s*[a-z]\s*(?:\\in\s*\\mathbb\s*\{?R\}?)?\s*(?:\||:|\\mid(?![a-z]))(.*?)\\?\}$"
)
# an interval whose open ends are brackets that look outward
_OUTWARD = re.compile(r"^[\s$]*([\]\[(])([^\[\](){},]+,[^\[\](){},]+)([\[\])])[\s$]*$")
_BASE = re.compile(r"(?<=\d)_\{?(\d+)")
_TRIGONOMETRY = r"\\(?:sin|cos|tan|cot|sec|csc)"
_UNITS = (
    r"\\(?:text[a-z]*|mbox)\s*\{[^{}]*\}|\\mathrm\s*\{[^{}]{2,}\}"
    r"|(?:[cmk]m|[mk]g|ml|in|ft|yd|mi|lbs?|oz|inch(?:es)?"
    r"|f(?:ee|oo)t|yards?|miles?|met(?:er|re)s?|hours?|minutes?|seconds?|days?|units?|degrees?"
    r"|dollars?|cents?)\b"
)
_SPELLINGS = [
    (re.compile(pattern), new)
    for pattern, new in (
        (r'\$|\n|\\?"', " "),
        (rf"(?<=[\d}})\]\s])\s*(?:{_UNITS})(?:\s*\^\s*\{{?[23]\}}?)?\s*(?=[.\s]*$|[,)\]])", ""),
        # \\sin 30^\\circ: elsewhere a degree is a unit
        (
            rf"({_TRIGONOMETRY})\s*[({{]?\s*(\d+(?:\.\d+)?)\s*(?:\^\s*\{{?\s*\\circ\s*\}}?|°)\s*[)}}]?",
            r"\1(\\frac{\2\\pi}{180})",
        ),
        (r"(?<=\d)\s*:\s*(?=\d)", "/"),
        (r"\\varnothing(?![a-zA-Z])", r"\\emptyset "),
        (r"(?<=[\d})])\s+(?:and|or)\s+(?=[\d\\-])", ","),
        (r"\*\*", "^"),
        (r"(?<!\\)\bsqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"√\s*(\d+|[a-z]|\([^()]*\))", r"\\sqrt{\1}"),
        (r"(?<![\\a-zA-Z])(?:pi(?![a-z])|π)|π", r"\\pi "),
        (r"(?<![\\a-zA-Z])(?:oo|inf|infty|infinity)(?![a-z])|∞", r"\\infty "),
        (r"(?<!\\)\*|×|·", r"\\cdot "),
        (r"<=|≤", r"\\leq "),
        (r">=|≥", r"\\geq "),
        (r"∪", r"\\cup "),
        (r"∈", r"\\in "),
        (r"±", r"\\pm "),
        (r"(?<!\\)\b(sin|cos|tan|log|ln|exp)\b", r"\\\1"),
    )
]


def is_expression(text: str) -> bool:
    """Is it worth computer algebra?

    Words are not: as products of letters, "act" would equal "cat". Nor is what is nested deeper
    than any answer: the parser's time grows exponentially with it.
    """
    depths = itertools.accumulate((c in "([{") - (c in ")]}") for c in text)
    if max(depths, default=0) > _DEEPEST:
        return False
    without_text = re.sub(r"\\(?:text|mathrm|mbox)\s*\{[^{}]*\}|_\s*\{[^{}]*\}", " ", text)
    bare = _NAMES.sub(" ", _COMMAND.sub(" ", without_text))
    if re.search(r"[^\W\d_]{4,}", bare):
        return False
    if re.search(r"[\d\\^_+*/=<>(\[|√π∞-]", without_text):
        return True
    return re.fullmatch(r"\W*[a-zA-Z]{1,2}\W*", bare) is not None


def is_bare(text: str) -> bool:
    """Is it nothing but an expression with an operator or a list, such as "10 - 3"?

    It must have no words, and no two terms side by side.
    """
    bare = re.sub(r"\b(?:and|or|pi)\b", " ", _NAMES.sub(" ", _COMMAND.sub(" ", text)))
    if re.search(r"[^\W\d_]{2,}|[:;?!]|\.\s|(?<=[\d)])\s+(?=[\d(])", bare):
        return False
    operator = re.search(r"[*/^√,]|\\[a-zA-Z]|(?<=.)[-+]|\b(?:and|or|sqrt|pi)\b", text)
    return operator is not None and re.search(r"\d", text) is not None


def _repeating(match: re.Match) -> str:
    """0.5\\overline{3} is 48/90: (53 - 5) / (100 - 10)."""
    whole, fixed, repeated = match.groups()
    top = int(whole + fixed + repeated) - int((whole + fixed) or 0)
    return rf"\frac{{{top}}}{{{10 ** len(fixed + repeated) - 10 ** len(fixed)}}}"


def _inward(match: re.Match) -> str:
    """]0, 1] as (0, 1]."""
    opening, inner, closing = match.groups()
    return f"{'(' if opening == ']' else opening}{inner}{')' if closing == '[' else closing}"


def _formula(text: str) -> str:
    """One LaTeX formula, in dollars, of an expression in LaTeX or as people type it."""
    text = _OUTWARD.sub(_inward, text)
    text = re.sub(r"(\d{0,50})\.(\d{0,50})\\(?:overline|bar)\s*\{(\d{1,50})\}", _repeating, text)
    for pattern, new in _SPELLINGS:
        text = pattern.sub(new, text)
    return f"${text.strip()}$"


def equal(given: str, truth: str) -> bool:
    """Is `given` the same as `truth`? What cannot be parsed is not.

    Raises whatever the comparison raises.
    """
    bases = [set(_BASE.findall(e)) for e in (given, truth)]
    if all(bases) and bases[0] != bases[1]:  # 101_2 and 101_3: the parser would drop the base
        return False
    if bool(_PRIME.search(given)) != bool(_PRIME.search(truth)):  # so it would A'
        return False
    # half a second, which most processes need not pay
    from math_verify import verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its limits are off
    if any(_CONDITIONS.search(e) and _RELATION.search(e) for e in (given, truth)):
        own, wanted = _solutions(given), _solutions(truth)
        if own is not None and wanted is not None:
            return own == wanted
    parsed = [_parse(e) for e in (truth, given)]
    if not all(parsed):
        return False
    a, b = (candidates[0] for candidates in parsed)
    if verify(*parsed, timeout_seconds=None, raise_on_error=True, allow_set_relation_comp=True):
        return "%" in given + truth or not _far_apart(a, b)
    return _same_solutions(a, b) or _same_complex(a, b) or _same_steps(a, b)


def _parse(text: str) -> list[Any]:
    """Math-verify's candidates for an expression: sympy's object first, none if it fails."""
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse

    # Without its units: "m", "t" and "g" would be units, and 5t would be 5.
    spelling = NormalizationConfig(units=False, malformed_operators=True, nits=True)
    config = [LatexExtractionConfig(boxed_match_priority=-1, normalization_config=spelling)]
    return parse(_formula(text), config, fallback_mode="no_fallback", parsing_timeout=None)


def _solutions(text: str) -> Any:
    """The numbers for which one of several conditions holds, "x < 2 or x > 3"; None for others.

    Also of a set in builder notation, and of intervals.
    """
    from sympy import Set, Union
    from sympy.logic.boolalg import Boolean

    text = _BUILDER.sub(r"\1", text.strip(" $"))
    found, unknowns = [], set()
    for part in _CONDITIONS.split(text):
        parsed = _parse(part)
        if not parsed or not isinstance(parsed[0], Boolean | Set):
            return None
        if isinstance(parsed[0], Boolean):
            unknowns |= parsed[0].free_symbols
            if len(parsed[0].free_symbols) != 1:
                return None
        found.append(parsed[0] if isinstance(parsed[0], Set) else parsed[0].as_set())
    return Union(*found) if len(unknowns) <= 1 else None


def _far_apart(a: Any, b: Any) -> bool:
    """Are these two numbers that math-verify takes for equal only because both are tiny?

    It reads six or fifteen places after the point, whatever the size: there 2^{-99} and 2^{-98} are
    both 0.
    """
    are_numbers = all(getattr(x, "is_number", False) for x in (a, b))
    if not are_numbers or a == b:
        return False
    a, b = a.evalf(30), b.evalf(30)
    return bool(abs(a - b) > 1e-5 * max(abs(a), abs(b)))


def _same_solutions(a: Any, b: Any) -> bool:
    """Do two inequalities in one unknown hold for the same numbers, 2x > 8 and x > 4?"""
    from sympy import Eq
    from sympy.core.relational import Relational

    for e in (a, b):
        is_inequality = isinstance(e, Relational) and not isinstance(e, Eq)
        if not is_inequality or len(e.free_symbols) != 1:
            return False
    return a.free_symbols == b.free_symbols and a.as_set() == b.as_set()


def _same_complex(a: Any, b: Any) -> bool:
    """Are they equal once i, which the parser reads as any letter, is the imaginary unit?"""
    from sympy import Expr, I, simplify

    if not (isinstance(a, Expr) and isinstance(b, Expr)):
        return False
    letters = {s: I for s in a.free_symbols | b.free_symbols if s.name == "i"}
    return bool(letters) and simplify((a - b).subs(letters).expand()) == 0


def _same_steps(a: Any, b: Any) -> bool:
    """Are two expressions with rounding brackets equal for every whole number?

    Told by trying: they repeat with the product of their denominators.
    """
    from sympy import Expr, ceiling, floor

    if not (isinstance(a, Expr) and isinstance(b, Expr) and a.has(floor, ceiling)):
        return False
    unknowns = a.free_symbols | b.free_symbols
    if len(unknowns) != 1 or not b.has(floor, ceiling):
        return False
    (n,) = unknowns
    return n.name in "nmkN" and all((a - b).subs(n, i).equals(0) for i in range(-30, 31))
