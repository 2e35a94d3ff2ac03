"""Final answers: extraction from text, and comparison with the truth. No JAX.

    text -> the last closed \\boxed{...}, else what follows the last "answer is", "answer:" or "####", else the last number
         -> a quantity, an expression, or words
         -> compared: quantities as exact rationals ("1,234" = 1234, "\\dfrac{1}{2}" = 1/2 = 0.5, "1 1/2" = 1.5), words after
            normalising white space and case, expressions (roots, pi, sets, intervals, matrices) by computer algebra

`judge` does all but the last: it is linear in the text's length, so that any process may call it, and returns the pair of
expressions that are left to compare. That comparison can hang or take all memory: `verifier` does it in processes that
can be killed; `verify` does it here. Training and evaluation use the same functions. Left out: decimal commas, numbers
as words, answers in two boxes, and a decimal that only approximates a fraction (0.333 is not 1/3).
"""

import re
from fractions import Fraction
from typing import NamedTuple

from sar_jax import equivalence, labels

# Answers end with their result, and every later step takes time by the character: what stands further from the end than
# any sampled answer is long (4,096 tokens are about 16,000 characters) is degenerate, and never read.
LONGEST_TEXT = 20_000
_LONGEST_NUMBER = 200        # characters that are still read as one number; int() itself refuses 4,300 digits
_LONGEST_STATEMENT = 500     # characters after a marker, or of an expression that is worth computer algebra

_SIGNS = str.maketrans({
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d", "-"), **dict.fromkeys("\u00a0\u2009\u202f~", " "),
    "½": " 1/2", "¼": " 1/4", "¾": " 3/4", "⅓": " 1/3", "⅔": " 2/3", "²": "^2", "³": "^3"})
_SPELLINGS = [(re.compile(pattern, re.ASCII), new) for pattern, new in (
    (r"(?<=\d)(?:\\,|\\!|\{,\}|,\\!)(?=\d{3}(?!\d))", ","), (r"(?<!\\)\\!", ""), (r"(?<!\\)\\(?:[,;: ]|q?quad\b)", " "),
    (r"\\([$%])", r"\1"), (r"\\[dtc]frac", r"\\frac"), (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
    (r"\\frac\s*\{([^{}]{1,99})\}\s*(\d)", r"\\frac{\1}{\2}"), (r"\\(?:left|right|displaystyle)(?![a-zA-Z])", ""))]
# A group of thousands stands alone: neither "1,23" nor "3,1,234" nor "1,234,5" is one; in brackets it is a point, a set
# or an interval, [1,234).
_GROUP = r"\d{1,3}(?:,\d{3})++(?!\d|,\d)"
_THOUSANDS = re.compile(rf"(?<![\d,.(\[])(?<!\\\{{){_GROUP}|(?<=\(){_GROUP}(?![)\]])", re.ASCII)
_THOUSANDS_IN_PROSE = re.compile(rf"(?<![\d,.]){_GROUP}", re.ASCII)
_MARKER = re.compile(r"answers?\s*(?:is|are|:|=)\s*:?|####", re.IGNORECASE)
_MATHS = re.compile(r"\$\$?(?=\S)([^$\n]{1,500})(?<=\S)\$\$?(?!\d)|\\\((.{1,500}?)\\\)|\\\[(.{1,500}?)\\\]", re.DOTALL)

_N = r"(?:\d+(?:\.\d*)?|\.\d+)"
_SCALES = {"%": Fraction(1, 100), "percent": Fraction(1, 100), "hundred": Fraction(100), "thousand": Fraction(10**3),
           "million": Fraction(10**6), "billion": Fraction(10**9), "trillion": Fraction(10**12)}
_NUMBER = re.compile(
    rf"(?P<sign>-?[$€£¥₹]?-?)"
    rf"(?:(?:(?P<whole>\d+)\s*)?\\frac\{{\s*(?P<top>-?{_N})\s*\}}\{{\s*(?P<bottom>-?{_N})\s*\}}"
    rf"|(?:(?P<whole2>\d+)\s+)?(?P<top2>\d+)\s*/\s*(?P<bottom2>\d+)|(?P<top3>{_N})\s*/\s*(?P<bottom3>{_N})"
    rf"|(?P<plain>{_N})(?:[eE](?P<e>[-+]?\d{{1,3}})(?![\w.])"
    rf"|\s*(?:\\times|\\cdot|[×·*x])\s*10\s*\^\s*\{{?\s*(?P<power>[-+]?\d{{1,3}})\s*\}}?)?)"
    rf"(?:\s*(?P<scale>%|(?i:percent|hundred|thousand|million|billion|trillion)\b))?", re.ASCII)
_WORDS = re.compile(r"\\(?:text(?:bf|it|rm)?|math(?:bf|rm|it)|mbox|boldsymbol|bf|rm|operatorname)\s*\{([^{}]*)\}")
_FUNCTION = r"(?:a?r?c?(?:sin|cos|tan|sec|csc|cot)h?|log|exp|sqrt|root|mod|choose|max|min|gcd|lcm|det)"
_UNIT = re.compile(   # a word of three letters or a short unit, then whatever is neither a number nor an operator
    rf"(?:(?!{_FUNCTION}\b)[^\W\d_]{{3,}}|(?:[kcm]?m|k?g|mg|s|h|hr|m?[lL]|ft|in|lbs?|oz|mi|yd|am|pm|mph|of|at|to|a)\b"
    r"|(?:st|nd|rd|th)\b|\^\s*\{\s*(?:unit|st|nd|rd|th)\s*\}|\^\s*(?:\\circ|\{\s*\\circ\s*\})|\\degree|°|[€£¥₹])"
    r"(?:[^\d=+*^<>\\{}\[\]|]|\^\s*\{?[23]\}?)*")
_NAME = re.compile(r"[\s$]*([a-zA-Z])\s*=")
_EQUALS = re.compile(r"(?<![<>!:\\])=")
# Around the number in a sentence: signs that make it a part of an expression or of a list.
_OPEN = re.compile(r"[\\^_√(\[{|<>]|[a-zA-Z0-9)\]}]\s*[-+*/×·]\s*$")
_CONTINUES = re.compile(
    r"\s*(?:[\\^*+×·/√π<>]|\((?!\s*[A-Za-z]{2})|-\s*[$]?[\d\\(]|(?:,|\s(?:and|or)\s)\s*[-$]?[\d\\(]|:\d)"
    r"|[xyzabcnktrpqij]\b")


class Pair(NamedTuple):
    """Two expressions whose equality computer algebra has to decide."""
    given: str
    truth: str


class Quantity(NamedTuple):
    """value: exact. scale: what a percent sign or a word such as "million" multiplies it with."""
    value: Fraction
    scale: Fraction = Fraction(1)


def _clean(text: str) -> str:
    """Other ways to write the same signs: typographic minus and spaces, LaTeX's spacing, \\dfrac, thousands' commas."""
    text = text.translate(_SIGNS)
    if "\\" in text or "{" in text:
        for pattern, new in _SPELLINGS:
            text = pattern.sub(new, text)
    return _THOUSANDS.sub(_without_commas, text)


def _without_commas(match: re.Match) -> str:
    return match.group().replace(",", "")


def boxed(text: str) -> str | None:
    """The content of the closed \\boxed{...} that begins last, nested braces included; one pass over the text."""
    open_braces: list[int] = []
    last, content = -1, None
    for i in (m.start() for m in re.finditer(r"[{}]", text)):
        if text[i] == "{":
            open_braces.append(i)
        elif open_braces:
            start = open_braces.pop()
            if start > last and text.endswith(("\\boxed", "\\fbox", "\\boxed ", "\\fbox "), 0, start):
                last, content = start, text[start + 1:i]
    return content


def _read(match: re.Match) -> Quantity | None:
    """The value of a number that `_NUMBER` found; None when it is too long or divides by zero."""
    if match.end() - match.start() > _LONGEST_NUMBER:
        return None
    part = match.groupdict()
    if part["plain"]:
        value = Fraction(part["plain"]) * Fraction(10) ** int(part["e"] or part["power"] or 0)
    else:
        top, bottom = next((part["top" + i], part["bottom" + i]) for i in ("", "2", "3") if part["top" + i])
        if not Fraction(bottom):
            return None
        value = int(part["whole"] or part["whole2"] or 0) + Fraction(top) / Fraction(bottom)
    scale = _SCALES[part["scale"].lower()] if part["scale"] else Fraction(1)
    return Quantity(-value if "-" in part["sign"] else value, scale)


def _shown(text: str, match: re.Match) -> str:
    """A number as it counts. A minus that follows a digit, a bracket or, without a space, a letter is an operator:
    "10-3" holds 10 and 3, "x is -3" holds -3."""
    before = text[max(0, match.start() - 20):match.start()]
    operator = before[-1:].isalpha() or before.rstrip()[-1:].isdigit() or before.rstrip()[-1:] in (")", "}", "]")
    return match.group().removeprefix("-") if operator else match.group()


def _last_shown(text: str) -> str | None:
    """The last number of a text that states nothing."""
    text = _THOUSANDS_IN_PROSE.sub(_without_commas, text)
    numbers = list(_NUMBER.finditer(text))
    return _shown(text, numbers[-1]) if numbers else None


def _quantity(text: str) -> Quantity | None:
    """The number that a cleaned text is: all of it, but for units, words after it, and "x =" before it."""
    if len(text) > _LONGEST_STATEMENT:
        return None
    text = re.split(r"\\approx|≈", text)[0]
    left, _, right = text.rpartition("=") if _EQUALS.search(text) else ("", "", text)
    if re.search(r"[,;<>!]|\band\b|\bor\b", left):   # "x = 1, y = 2" is no number
        return None
    # A group of words is one unit, whatever its letters ("5 \text{ A}"), unless it holds the number or a scale.
    keep = lambda m: m[1] if re.search(rf"\d|{'|'.join(_SCALES)}", m[1], re.IGNORECASE) else " unit "
    right = re.sub(r"\{\{([^{}]*)\}\}", r"{\1}", right)
    right = re.sub(r"^(?:\s|unit)+", "", _WORDS.sub(keep, right)).strip(" $.:*")
    right = re.sub(r"^([-+])\s*", r"\1", right.removeprefix("(").removesuffix(")") if _bare(right) else right)
    found = _NUMBER.match(right.removeprefix("+"))
    if found is None:
        return None
    rest = found.string[found.end():].strip(" $.")
    return _read(found) if not rest or _UNIT.fullmatch(rest) else None


def _bare(text: str) -> bool:
    """Is it one number in brackets, "(5)"? With a comma it were a point or an interval."""
    return re.fullmatch(r"\(\s*[-$]*[\d.]+%?\s*\)", text) is not None


def number(text: str) -> Fraction | None:
    """The exact value of an answer that is one number, a currency or percent sign left out; else None."""
    text = re.sub(r"^(-?)\s+", r"\1", _clean(text).strip(" $.\n\t"))
    found = _NUMBER.fullmatch(text)
    quantity = found and _read(found)
    return quantity.value if quantity and quantity.scale <= 1 else None


def _sentence(text: str) -> tuple[str, Quantity | None]:
    """The answer that a sentence states: its first formula, else the first number after its last "=", else all of it."""
    if formula := _MATHS.search(text):
        if not re.search(r"\d", text[:formula.start()]):
            text = next(g for g in formula.groups() if g is not None)
            return text, _quantity(text)
        text = text[:formula.start()].rstrip(" =") or text   # "5, as $x = 7$ shows"
    text = re.split(r"[.;!?](?:\s|$)", text)[0].strip(" :*")
    if (whole := _quantity(text)) is not None:
        return text, whole
    start = text.rfind("=") + 1
    for found in _NUMBER.finditer(text, start):
        if _OPEN.search(text, start, found.start()) or _CONTINUES.match(text, found.end()):
            return text, None
        return _shown(text, found), _read(found)
    return text, None


def _stated(text: str) -> tuple[str, Quantity | None] | None:
    """What a cleaned text says its answer is: its box, else the line after its last marker that states anything."""
    if (content := boxed(text)) is not None:
        return content.strip(), _quantity(content)
    words = None
    for marker in list(_MARKER.finditer(text))[-10:][::-1]:
        rest = text[marker.end():marker.end() + _LONGEST_STATEMENT].strip(" \n\t\r:*").split("\n")[0].strip(" :*")
        stated = _sentence(rest) if rest else None
        if stated and (stated[1] is not None or len(stated[0]) > 2 and equivalence.is_expression(stated[0])):
            return stated
        words = words or stated
    return words


def extract(text: str) -> str | None:
    """The final answer that a text states, thousands' commas left out, or None."""
    text = _clean(text[-LONGEST_TEXT:])
    if stated := _stated(text):
        plain = _WORDS.sub(r"\1", stated[0]).strip(" .$")
        value = _NUMBER.search(plain, plain.rfind("=") + 1) if stated[1] is not None else None
        return value.group() if value else plain or None
    return _last_shown(text)


def final(text: str, kind: str = "math", choices: int = 0) -> str | None:
    """The final answer so that equal answers are equal text, for majorities: the exact value of a number, a label, words as
    they are compared; or None. Expressions are not simplified: \\sqrt{8} and 2\\sqrt{2} are two answers here."""
    text = text[-LONGEST_TEXT:]
    if kind in labels.LAST:
        return labels.LAST[kind](text, choices)
    stated = extract(text)
    value = number(stated) if stated else None
    return str(value) if value is not None else stated and _normal(stated)


def _normal(text: str) -> str:
    """Words as they are compared."""
    text = " ".join(_WORDS.sub(r"\1", text).replace("$", "").split()).strip(".* ").lower()
    return text[1:-1] if re.fullmatch(r"\([a-z]\)", text) else text


def _same(a: Quantity, b: Quantity) -> bool:
    """50% is 0.5, and it is 50 where the question asked for a percentage; "5 million" likewise."""
    if a.scale == b.scale or 1 in (a.scale, b.scale):
        if a.value == b.value:
            return True
    return a.value * a.scale == b.value * b.scale


def _maths(text: str, truth: str, choices: int = 0) -> bool | Pair:
    """`truth` may be a worked answer that states its own."""
    text, truth = _clean(text), _clean(truth).strip()
    expected, quantity = truth, _quantity(truth)
    if quantity is None and (stated := _stated(truth)):
        expected, quantity = stated
    given = _stated(text)
    if given is None and quantity is not None:
        shown = _last_shown(text)
        value = _read(_NUMBER.match(shown)) if shown else None
        return value is not None and _same(value, quantity)
    if given is None:   # a truth that is no number: the last formula, or a text that is nothing but its answer
        formulas = [next(g for g in m.groups() if g is not None) for m in _MATHS.finditer(text)]
        alone = text.strip() if len(text) <= _LONGEST_STATEMENT and "\n" not in text.strip() else ""
        given = (formulas[-1] if formulas else alone, None)
    if quantity is not None and given[1] is not None:
        names = [m[1] for m in map(_NAME.match, (given[0], expected)) if m]
        return _same(given[1], quantity) and len(set(names)) <= 1   # "x = 5" is not "y = 5", though both are 5
    ours, theirs = _normal(given[0]), _normal(expected)
    # "yes, because ..." states yes; "no one knows" does not state no.
    if theirs and (ours == theirs or theirs.isalpha() and re.match(re.escape(theirs) + r"[,.;:!)]", ours)):
        return True
    if all(equivalence.is_expression(e) and len(e) <= _LONGEST_STATEMENT for e in (given[0], expected)):
        return Pair(given[0], expected)
    return False


def _last_number(text: str, truth: str, choices: int = 0) -> bool:
    """The rule of the paper's reference, faults included, so that both can be compared: the last number or \\frac{}{}
    anywhere decides. "1,234" reads as 234, "10-3" as -3, "1/2" and "\\dfrac{1}{2}" as 2."""
    found = re.findall(r"(-?)\\frac\{(-?\d{1,200})\}\{(-?\d{1,200})\}|(-?\d{1,200}(?:\.\d{1,200})?)", text, re.ASCII)
    expected = number(truth)
    if not found or expected is None:
        return False
    sign, top, bottom, plain = found[-1]
    if plain:
        return Fraction(plain) == expected
    return int(bottom) != 0 and Fraction(int(top), int(bottom)) * (-1 if sign else 1) == expected


def judge(text: str, truth: str, kind: str = "math", choices: int = 0) -> bool | Pair:
    """Right or wrong, or the two expressions that `equivalence.equal` has to compare. Linear in the text's length.

    `choices`: how many lettered options the question has, for the kind "choice" (0: four). Raises ValueError for an
    unknown kind, and for a truth that is none of the options.
    """
    if kind not in VERIFIERS:
        raise ValueError(f"no verifier is named {kind!r}; there are {', '.join(VERIFIERS)}")
    return VERIFIERS[kind](text[-LONGEST_TEXT:], truth, choices)


def verify(text: str, truth: str) -> bool:
    """Does the text's final answer equal the truth? In this process and without a time limit: for one's own texts; a
    model's go through `verifier.Verifier`, which also tells a comparison that raises, here False, from a wrong answer."""
    judged = judge(text, truth)
    if not isinstance(judged, Pair):
        return judged
    try:
        return equivalence.equal(*judged)
    except Exception:   # parsers and simplifiers raise anything
        return False


VERIFIERS = {"math": _maths, "last_number": _last_number, "choice": labels.choice, "boolean": labels.boolean}
