"""Numbers as people and LaTeX write them, read as exact rationals. No JAX.

"1,234" and "1 234" are 1234, "1 1/2" and "\\dfrac{3}{2}" are 3/2, "3.2 \\times 10^{2}" is 320,
"10^3" is 1000. Units, a currency and "x =" are left out; a percent sign and words such as "million"
are kept beside the value. Nothing here takes more than linear time. Left out: numbers as words, and
a decimal comma ("1,5" is a list).
"""

import re
import unicodedata
from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

from sar_jax.text.answers import spoken

LONGEST_STATEMENT = 500  # characters of a statement that are still read, or worth computer algebra
# characters that are still read as one number; int() itself refuses 4,300 digits
_LONGEST_NUMBER = 200
_MOST_DIGITS = 4000  # of a power
_PLACES = 6  # of a decimal from which on it is read as the fraction that it rounds

_SIGNS = {
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d"), "-"),
    **dict.fromkeys(map(ord, "\u00a0\u2009\u202f~"), " "),
    **{0xFF01 + i: chr(0x21 + i) for i in range(0x5E) if chr(0x21 + i) != "-"},  # full width
    ord("⁄"): "/",
}
_STRUCK = re.compile(r"~~[^~\n]{1,200}~~")  # in markdown
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
_SUPERSCRIPT = re.compile(r"[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
# without an argument
_STYLES = (
    r"left|right|[bB]igg?[lr]?|displaystyle|(?:text|script|scriptscript)style|limits|tiny|small|normalsize|[lL]arge|LARGE"
    r"|[hH]uge|bf|it|rm|bfseries|itshape"
)
# (what a text must hold, pattern, new): most texts hold few of them
_SPELLINGS = [
    (needle, re.compile(pattern, re.ASCII), new)
    for needle, pattern, new in (
        ("", r"(?<=\d)(?:\\,|\\!|\{,\}|,\\!) ?(?=\d{3}(?!\d))", ","),
        ("\\!", r"(?<!\\)\\!", ""),
        ("", r"(?<!\\)\\(?:[,;: ]|q?quad(?![a-zA-Z]))", " "),
        ("", r"\\([$%])", r"\1"),
        ("frac", r"\\[dtc]frac", r"\\frac"),
        ("frac", r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        ("frac", r"\\frac\s*\{([^{}]{1,99})\}\s*(\d)", r"\\frac{\1}{\2}"),
        ("frac", r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{"),
        ("sqrt", r"\\sqrt\s*\[([^\[\]]{1,9})\]\s*(\w)", r"\\sqrt[\1]{\2}"),
        ("phantom", r"\\[hv]?phantom\s*\{[^{}]*\}", " "),
        ("space", r"\\[hv]space\*?\s*\{[^{}]*\}", " "),
        ("color", r"\\(?:(?:text)?color|colorbox)\s*\{[\w!]+\}", ""),
        ("", rf"\\(?:{_STYLES})(?![a-zA-Z])(?!\s*\{{)", ""),
    )
]
# A group of thousands is a number by itself: neither "1,23" nor "3,1,234" nor "1,234,5" is one; in
# brackets it is a point, a set or an interval, [1,234).
_GROUP = r"[1-9]\d{0,2}(?:,\d{3})++(?!\d|,\d)"
_THOUSANDS = re.compile(rf"(?<![\d,.(\[])(?<!\\\{{){_GROUP}|(?<=\(){_GROUP}(?![)\]])", re.ASCII)
_THOUSANDS_IN_PROSE = re.compile(rf"(?<![\d,.]){_GROUP}", re.ASCII)
_THOUSANDS_BY_SPACES = re.compile(r"(?<![\d.,/])[1-9]\d{0,2}(?: \d{3})++(?!\d|/|,\d)", re.ASCII)

_THOUSANDS_BY_MARKS = re.compile(
    r"(?<![\w.,'’])[1-9]\d{0,2}(?:(['’_])\d{3}(?:\1\d{3})*|(?:\.\d{3}){2,})(?!['’_.,]?\d)",
    re.ASCII,
)

_N = r"(?:\d+(?:\.\d*)?|\.\d+)"
_SCALES = {
    "percentage": Fraction(1, 100),
    "percent": Fraction(1, 100),
    "pct": Fraction(1, 100),
    "%": Fraction(1, 100),
    "dozen": Fraction(12),
    "hundred": Fraction(100),
    "gross": Fraction(144),
    "thousand": Fraction(10**3),
    "lakh": Fraction(10**5),
    "million": Fraction(10**6),
    "crore": Fraction(10**7),
    "billion": Fraction(10**9),
    "trillion": Fraction(10**12),
}
_GAP = r"[^\S\n]"  # white space within a line
NUMBER = re.compile(
    rf"(?P<sign>-?[$€£¥₹]?-?)"
    rf"(?:(?:(?P<whole>\d+){_GAP}*)?"
    rf"\\frac\{{\s*(?P<top>-?{_N})\s*\}}\{{\s*(?P<bottom>-?{_N})\s*\}}"
    rf"|(?:(?P<whole2>\d+){_GAP}+)?(?P<top2>\d+)\s*/\s*(?P<bottom2>\d+)"
    rf"|(?P<top3>{_N})\s*/\s*(?P<bottom3>{_N})"
    rf"|(?P<plain>{_N})(?:[eE](?P<e>[-+]?\d{{1,3}})(?![\w.])"
    rf"|\s*(?:\\times|\\cdot|[×·*x])\s*10\s*\^\s*\{{?\s*(?P<power>[-+]?\d{{1,3}})\s*\}}?"
    rf"|\s*\^\s*(?:(?P<exponent>\d{{1,3}})(?!\.?\d)"
    rf"|\{{\s*(?P<exponent2>[-+]?\d{{1,3}})\s*\}})(?!\s*[\^!]))?)"
    rf"(?:\s*(?P<scale>%|(?i:{'|'.join(s for s in _SCALES if s != '%')})\b))?",
    re.ASCII,
)
_POWERS = ("e", "power", "exponent", "exponent2")  # groups of `NUMBER`
WORDS = re.compile(
    r"\\(?:text[a-z]*|math(?:bf|rm|it|sf|tt)|mbox|boldsymbol|bm|underline|bf|rm|operatorname)\s*\{([^{}]*)\}"
)
_FUNCTION = (
    r"(?:a?r?c?(?:sin|cos|tan|sec|csc|cot)h?|log|exp|sqrt|root|mod|choose|max|min|gcd|lcm|det)"
)
# a word of three letters or a short unit, then whatever is neither a number nor an operator
_UNIT = re.compile(
    rf"(?:(?!(?:{_FUNCTION}|and)\b)[^\W\d_]{{3,}}"
    r"|(?:[kcm]?m|k?g|mg|s|h|hr|m?[lL]|ft|in|lbs?|oz|mi|yd|am|pm|AM|PM|mph|of|at|to|a)\b"
    r"|(?:st|nd|rd|th)\b|\^\s*\{\s*(?:unit|st|nd|rd|th)\s*\}"
    r"|\^\s*(?:\\circ|\{\s*\\circ\s*\})|\\degree|°|[€£¥₹])"
    r"(?:[^\d=+*^<>\\{}\[\]|]|\^\s*\{?[23]\}?)*"
)
_EQUALS = re.compile(r"(?<![<>!:\\])=")
_SIGN_APART = re.compile(r"^([-+])\s*")
_UNKNOWN = re.compile(r"(?<![^\W\d_])[^\W\d_](?![^\W\d_])")  # a letter that is no part of a word


# of a number alone: a unit, a currency; ".5" is 0.5
_PREFIX = re.compile(
    r"^(?:[\s$:*]|unit|\.(?!\d)|(?:USD|US(?=\$)|EUR|GBP|CAD|AUD|INR|Rs\.?)(?=[\s$\d]))+"
)


_SIMPLE = re.compile(r"\s*\$?(-?\d{1,100}(?:\.(\d{1,100}))?)\.?\s*", re.ASCII)
_ONE = Fraction(1)


class Quantity(NamedTuple):
    """A number as it was written.

    value    exact
    scale    what a percent sign or a word such as "million" multiplies it with
    places   after the point, of a decimal; None for anything else
    """

    value: Fraction
    scale: Fraction = _ONE
    places: int | None = None


def clean(text: str) -> str:
    """The text with one way to write each sign.

    Replaced are typographic minus and spaces, LaTeX's spacing, \\dfrac, thousands' commas.
    """
    if "~~" in text:
        text = _STRUCK.sub("", text)
    if not text.isascii():
        text = _ascii(text)
    elif "~" in text:
        text = text.replace("~", " ")
    if "\\" in text or "{" in text:
        for needle, pattern, new in _SPELLINGS:
            if needle in text:
                text = pattern.sub(new, text)
    if any(mark in text for mark in "'’_") or text.count(".") > 1:
        text = _THOUSANDS_BY_MARKS.sub(_without_separators, text)
    return _THOUSANDS.sub(_without_separators, text) if "," in text else text


def _ascii(text: str) -> str:
    """Digits of any script, superscripts and fractions in one sign, as people type them."""
    text = _SUPERSCRIPT.sub(_power, text.translate(_SIGNS))
    others = {c for c in text if c > "\x7f" and (c.isdigit() or c.isnumeric())}
    for sign in others:
        text = text.replace(sign, _numeral(sign))
    return text


def _power(match: re.Match) -> str:
    exponent = match.group().translate(_SUPERSCRIPTS)
    return f"^{exponent}" if len(exponent) == 1 else f"^{{{exponent}}}"


def _numeral(sign: str) -> str:
    """ "5" for a five of any script, " 5/8" for a fraction in one sign; any other sign itself."""
    if (digit := unicodedata.decimal(sign, None)) is not None:
        return str(digit)
    fraction = unicodedata.normalize("NFKC", sign).replace("⁄", "/")
    return f" {fraction}" if re.fullmatch(r"\d+/\d+", fraction) else sign


_SEPARATOR = re.compile(r"[,. '’_]")


def _without_separators(match: re.Match) -> str:
    return _SEPARATOR.sub("", match.group())


def read(match: re.Match) -> Quantity | None:
    """The value of what `NUMBER` found.

    None if it is too long, divides by zero, or is a whole number with an improper fraction.
    """
    if match.end() - match.start() > _LONGEST_NUMBER:
        return None
    part, places = match.groupdict(), None
    value = _plain(part) if part["plain"] else _fraction(part)
    if value is None:
        return None
    if part["plain"] and not any(part[name] for name in _POWERS):
        places = len(part["plain"].partition(".")[2])
    scale = _SCALES[part["scale"].lower()] if part["scale"] else _ONE
    return Quantity(-value if "-" in part["sign"] else value, scale, places)


def _plain(part: Mapping[str, str | None]) -> Fraction | None:
    """A number without a fraction, "3.2 \\times 10^{2}"; part: the groups of `NUMBER`."""
    value = Fraction(part["plain"])
    if tens := part["e"] or part["power"]:
        value *= Fraction(10) ** int(tens)
    exponent = part["exponent"] or part["exponent2"]
    if not exponent:
        return value
    if len(part["plain"]) * abs(int(exponent)) > _MOST_DIGITS:
        return None
    if not value and int(exponent) <= 0:
        return None
    return value ** int(exponent)


def _fraction(part: Mapping[str, str | None]) -> Fraction | None:
    """A fraction, perhaps after a whole number, "1 1/2"; part: the groups of `NUMBER`."""
    kind = next(kind for kind in ("", "2", "3") if part["top" + kind])
    top, bottom = Fraction(part["top" + kind]), Fraction(part["bottom" + kind])
    whole = part["whole"] or part["whole2"]
    if not bottom or whole and not 0 <= top < bottom:
        return None
    return int(whole or 0) + top / bottom


def shown(text: str, match: re.Match) -> str:
    """A number as it counts, found by `NUMBER` in the text.

    A minus that follows a digit, a bracket or, without a space, a letter is an operator: "10-3" has
    10 and 3, "x is -3" has -3.
    """
    before = text[max(0, match.start() - 20) : match.start()]
    last = before.rstrip()[-1:]
    is_operator = before[-1:].isalpha() or last.isdigit() or last in (")", "}", "]")
    return match.group().removeprefix("-") if is_operator else match.group()


def last_found(text: str) -> re.Match | None:
    """The last number of a text that states nothing; its string has no thousands' commas.

    None where that is a part of a word or of a power.
    """
    text = _THOUSANDS_IN_PROSE.sub(_without_separators, text)
    for match in reversed(list(NUMBER.finditer(text))):
        before = text[max(0, match.start() - 20) : match.start()]
        after = text[match.end() : match.end() + 1]
        if power := re.search(r"([a-zA-Z]*)\s*\^\s*\{?\s*$", before):
            if len(power[1]) > 1 or power[1] == "m":  # of a unit, cm^2
                continue
            return None
        if before[-1:].isalpha() and after.isalpha():  # H2O
            continue
        return match
    return None


def is_equation(text: str) -> bool:
    """Is what comes before the last "=" more than a name?

    "2x + z" is; "x", "f(2)", "5 + 3" and "area" are not.
    """
    name = r"[a-zA-Z]\s*\([^()]*\)|_\s*(?:\w|\{[^{}]*\})|\\[a-zA-Z]+"
    for side in text.split("=")[:-1]:
        side = re.sub(name, "f", WORDS.sub(" ", side))
        if not _UNKNOWN.search(side) or not re.search(r"[-+*^]|\d\s*[^\W\d_]", side.strip(" -+$")):
            return False
    return "=" in text


def quantity(text: str, is_truth: bool = False) -> Quantity | None:
    """The number that a cleaned text is: all of it, but for units and a name.

    Units and words may follow it, and "x =" may precede it. A truth that is an equation in unknowns
    is no number; a model may well end on "a + b = 5" when a + b was asked for.
    """
    if len(text) > LONGEST_STATEMENT:
        return None
    if simple := _SIMPLE.fullmatch(text):  # as most truths are
        return Quantity(Fraction(simple[1]), _ONE, len(simple[2] or ""))
    if "\\approx" in text or "≈" in text:
        exact, _, rounded = re.sub(r"\\approx(?![a-zA-Z])", "≈", text).partition("≈")
        text = exact if exact.strip(" $\n") else rounded
    left, _, right = text.rpartition("=") if _EQUALS.search(text) else ("", "", text)
    if left and re.search(r"[,;<>!]|\band\b|\bor\b", left) or is_truth and is_equation(text):
        return None  # "x = 1, y = 2" is no number
    if "{" in right:
        right = re.sub(r"\{\{([^{}]*)\}\}", r"{\1}", right)
        right = WORDS.sub(_unit_or_words, right)
        right = re.sub(r"^\s*\{([^{}]*)\}", r"\1", right)
    right = _PREFIX.sub("", right)
    right = right.rstrip(" $.:*")
    if _is_in_brackets(right):
        right = right.removeprefix("(").removesuffix(")")
    right = _SIGN_APART.sub(r"\1", right)
    found = NUMBER.match(joined(right).removeprefix("+"))
    if found is None:
        return None
    rest = found.string[found.end() :].strip(" $.")
    if rest and (not _UNIT.fullmatch(rest) or spoken.opens_after(rest, 0)):
        return None
    return read(found)


def _unit_or_words(match: re.Match) -> str:
    """A group of words that `WORDS` found is one unit, whatever its letters ("5 \\text{ A}").

    Unless it holds the number, a scale or "or": then the words stay.
    """
    stays = rf"\d|{'|'.join(_SCALES)}|\b(?:and|or|approx\w*|about)\b"
    if re.search(stays, match[1], re.IGNORECASE) or spoken.is_open(match[1]):
        return match[1]
    return " unit "


def joined(text: str) -> str:
    """A text that is one number, without the spaces between its thousands: "1 234.5".

    Not for sentences, in which two numbers look the same.
    """
    return _THOUSANDS_BY_SPACES.sub(_without_separators, text)


def _is_in_brackets(text: str) -> bool:
    """Is it one number in brackets, "(5)"? With a comma it would be a point or an interval."""
    return text.startswith("(") and re.fullmatch(r"\(\s*[-$]*[\d.]+%?\s*\)", text) is not None


def number(text: str) -> Fraction | None:
    """The exact value of an answer that is one number, else None.

    A currency or percent sign is left out.
    """
    text = re.sub(r"^(-?)\s+", r"\1", clean(text).strip(" $.\n\t"))
    found = NUMBER.fullmatch(text)
    quantity = found and read(found)
    return quantity.value if quantity and quantity.scale <= 1 else None


def same(a: Quantity, b: Quantity) -> bool:
    """Are they the same number?

    50% is 0.5, and it is 50 where the question asked for a percentage; 5 million is 5,000,000
    alone. 0.333333 is 1/3.
    """
    if a.scale == b.scale or max(a.scale, b.scale) == 1:
        if a.value == b.value:
            return True
    if a.value * a.scale == b.value * b.scale:
        return True
    return a.scale == b.scale and (_rounds(a, b) or _rounds(b, a))


def _rounds(decimal: Quantity, fraction: Quantity) -> bool:
    """Is the first one the second, written with six or more places, all of them right?

    The second one must be a fraction, which may have no end as a decimal.
    """
    if decimal.places is None or decimal.places < _PLACES or fraction.places is not None:
        return False
    error = abs(decimal.value - fraction.value)
    return error * 10**decimal.places < 1 and error * 10 ** (_PLACES - 1) <= abs(fraction.value)
