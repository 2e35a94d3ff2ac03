"""What words say about a number: cardinals, fractions, signs and operators become symbols; words
that leave the number open are told. No JAX.

    twenty-four eggs         -> 24 eggs             (text2num)
    two thirds, 5 and a half -> 2/3, 5 1/2
    minus 5, 5 below zero    -> -5
    half of 12, 5 squared    -> 1/2*12, 5^2
    at least 5, not 5, 5 or more: no number, see `opens_before` and `opens_after`
"""

import functools
import re

from text_to_num import alpha2digit, text2num

_UNITS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"
).split()
_SCALES = ("hundred", "thousand", "million", "billion", "trillion")
_CARDINAL = rf"(?:zero|{'|'.join(_UNITS + list(_SCALES))})"
_PARTS = {
    **dict.fromkeys(("half", "halves"), 2),
    **dict.fromkeys(("third", "thirds"), 3),
    **dict.fromkeys(("quarter", "quarters", "fourth", "fourths"), 4),
    **{f"{name}{s}": n for n, name in enumerate("fifth sixth seventh eighth".split(), 5)
       for s in ("", "s")},
    **{f"{name}{s}": n for name, n in (("ninth", 9), ("tenth", 10), ("hundredth", 100),
       ("thousandth", 1000)) for s in ("", "s")},
}  # fmt: skip
_PART = rf"(?P<part>{'|'.join(sorted(_PARTS, key=len, reverse=True))})\b"
_POWERS = {"second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "tenth": 10}
_NUMBER = r"\d+(?:\.\d+)?(?:/\d+)?"
# "one" that counts nothing: no one, one of them; and the first half of a word, four-legged
_RUN = re.compile(
    rf"(?<![\w-])(?:(?P<article>an?)\s+(?=hundred|thousand|million|billion))?"
    rf"(?P<run>{_CARDINAL}(?:(?:[\s-]+|\s+and\s+|\s+point\s+){_CARDINAL})*)(?!['’]?\w)"
    rf"(?!-(?!half|thirds?\b|quarters?\b|fourths?\b|[a-z]+ths?\b)[a-z])(?!(?<=\bone)\s+of\b)",
    re.IGNORECASE,
)
_PRONOUN = re.compile(
    r"\b(?:no|any|every|some|each|this|that|which|the|other|last|only)\s+$", re.IGNORECASE
)
_ANY = re.compile(
    rf"\b(?:{_CARDINAL}|half|halves|thirds?|quarters?|dozen|[a-z]+ths?|minus|negative|below|plus"
    r"|times|over|divided|multiplied|squared|cubed|power|factorial|square|cube|root|twice|double"
    r"|triple|thrice|percent|cents?)\b|%\s*of\b",
    re.IGNORECASE,
)


def _part(match: re.Match) -> str:
    """Two thirds, 2/3; a half and 1 half, 1/2; 5 and a half, 5 1/2."""
    part = match.groupdict()
    whole = f"{part['whole']} " if part.get("whole") else ""
    count = part.get("count") or "1"
    is_plural = part["part"].lower().endswith("s")
    if (count == "1") is is_plural:
        return match.group()  # 3 tenth, one thirds
    return f"{whole}{count}/{_PARTS[part['part'].lower()]}"


_SYMBOLS = [
    (re.compile(pattern, re.IGNORECASE), new)
    for pattern, new in (
        (r"\bhalf\s+a\s+dozen\b", "6"),
        (r"\bhalf\s+(?=1(?:000)+\b)", "1/2*"),  # a million, by now
        (r"\ban?\s+dozen\b", "1 dozen"),
        (rf"(?P<whole>\d+)\s+and\s+(?:an?[\s-]+|(?P<count>\d+)[\s-]+){_PART}", _part),
        (rf"(?<![\d/.])(?P<count>\d+)(?:\s+|-){_PART}", _part),
        (rf"(?<![\w-])(?:an?\s+)?{_PART}\s+of\s+(?:the\s+)?(?=\$?\d)", lambda m: _of(m)),
        (r"^\W*(?:an?\s+|1[\s-]+)?(?P<part>half|third|quarter)\b(?=\W*$|\s+of\s+(?!.*\d))",
         lambda m: f"1/{_PARTS[m['part'].lower()]}"),
        (r"(\d+/\d+)\s+of\s+(?=\$?\d)", r"\1*"),
        (rf"({_NUMBER})\s*(?:%|percent)\s+of\s+(?=\$?\d)", r"\1/100*"),
        (rf"(-?{_NUMBER})((?:\s+degrees?)?(?:\s+(?:celsius|fahrenheit))?)\s+below\s+(?:zero|0)\b",
         r"-\1\2"),
        (rf"\bsquare\s+root\s+of\s+({_NUMBER})", r"\\sqrt{\1}"),
        (rf"\bcube\s+root\s+of\s+({_NUMBER})", r"\\sqrt[3]{\1}"),
        (rf"\bsquare\s+of\s+({_NUMBER})", r"\1^2"),
        (rf"\bcube\s+of\s+({_NUMBER})", r"\1^3"),
        (r"(?<=\d)\s+squared\b", "^2"),
        (r"(?<=\d)\s+cubed\b", "^3"),
        (r"(?<=\d)\s+factorial\b", "!"),
        (r"(?<=\d)\s+(?:raised\s+)?to\s+the\s+power\s+(?:of\s+)?(?=\d)", "^"),
        (rf"(?<=\d)\s+(?:raised\s+)?to\s+the\s+({'|'.join(_POWERS)})\s+power\b",
         lambda m: f"^{_POWERS[m[1].lower()]}"),
        (r"\b(?:twice|double)\s+(?=\d)", "2*"),
        (r"\b(?:thrice|triple)\s+(?=\d)", "3*"),
        (r"(\d+)\s+dollars?\s+and\s+(\d{1,2})\s+cents?\b",
         lambda m: f"{m[1]}.{m[2]:>02} dollars"),
        (r"(?<=[\d)!])\s+plus\s+(?=[\d($])", " + "),
        (r"(?<=[\d)!])\s+minus\s+(?=[\d($])", " - "),
        (r"(?<=[\d)!])\s+(?:times|multiplied\s+by)\s+(?=[\d($])", "*"),
        (r"(?<=[\d)!])\s+(?:over|divided\s+by)\s+(?=[\d($])", "/"),
        (r"\b(?:minus|negative)\s+(?=[\d.$€£¥₹\\])", "-"),
    )
]  # fmt: skip


def _of(match: re.Match) -> str:
    return f"1/{_PARTS[match['part'].lower()]}*" if not match["part"].endswith("s") else match[0]


def _cardinal(match: re.Match) -> str:
    """The digits of a run of number words; the run itself where it is no number."""
    run, before = match["run"].lower(), match.string[: match.start()]
    if re.search(r"\d\s*$", before) or run == "one" and _PRONOUN.search(before):
        return match.group()  # the scale of "5 million"; "no one"
    return _digits(run) or match.group()


@functools.lru_cache(maxsize=4096)
def _digits(run: str) -> str | None:
    run = re.sub(r"^(?=hundred|thousand|million|billion)", "one ", re.sub(r"[\s-]+", " ", run))
    if " point " in run:
        found = alpha2digit(run, "en", 0)
        return found if re.fullmatch(r"\d+\.\d+", found) else None
    try:
        return str(text2num(run, "en"))
    except ValueError:  # "seven eight"
        return None


def symbols(text: str, cardinals: bool = True) -> str:
    """A statement with its words about numbers as symbols; see above.

    cardinals   "five" too, which in a sentence with digits may count nothing ("one can see")
    """
    if not _ANY.search(text):
        return text
    if cardinals:
        text = _RUN.sub(_cardinal, text)
    for pattern, new in _SYMBOLS:
        text = pattern.sub(new, text)
    return re.sub(r"(?<![\w.])([\d.]+)\s*\(\s*\1\s*\)", r"\1", text)  # five (5)


# Words before a number that leave it open, or say that it is not this one.
_BEFORE = re.compile(
    r"(?:\b(?:not|cannot|never|than|least|most|over|under|above|below|beyond|past|near|nearly|almost"
    r"|between|from|either|neither|nor|except|minus|negative|plus|times|half|twice|double|triple"
    r"|divided by|multiplied by|multiple of|factor of|power of|root of|square of|cube of"
    r"|(?:one|some|any|each|none|half|part|third|quarter|\d+|percent|%) of|out of|as|up to"
    r"|(?:anything|everything|all|none|nothing) but|no longer|that of|or equals?(?: to)?"
    r"|(?:wrong|incorrect) answer (?:is|was)|(?:reciprocal|opposite|inverse|logarithm|log) of"
    r"|sqrt|log|ln|sin|cos|tan)|n['’]t|%\s*of|\d:)"
    r"(?:\s+(?:be|have|has|equal|equals|get|to|only|just|exactly|the))*[\s$]*(?:\\text\s*\{)?[\s$]*$",
    re.IGNORECASE,
)
# Words after a number that change it or deny it, at most two other words, its unit, between.
_UNIT = r"(?:\s*[^\W\d_]{1,15}){0,2}?"
_AFTER = re.compile(
    rf"\s*(?:(?:squared|cubed|factorial|plus|minus|over|divided|multiplied|mod|modulo)\b"
    r"|times\s+(?:\$?\d|as\b(?=.*\d)|the\b|that\b)|less\s+\$?\d"
    rf"|\+(?!\s*[\w(\\$])|=\s*$|of\s+(?:the\s+)?\$?\d|to\s+(?:\$?-?\d|the\s+(?:\w+\s+)?power)|out\s+of\b|in\s+\d+\s*(?:\W|$)"
    rf"|(?:{'|'.join(sorted(_PARTS, key=len, reverse=True))})\b"
    rf"|score\b|per\s+\d|['’]s\b"
    rf"|,?\s+but\s+(?:that|it|this)(?:['’]s|\s+is|\s+was)\s+(?:wrong|incorrect|not)\b"
    rf"|{_UNIT}\s*(?:or\s+(?:more|less|fewer|so|greater|above|higher|lower|over|under|below)\b"
    rf"|and\s+(?:up|over|above|more|an?)\b|at\s+(?:most|least)\b|below\b|above\b"
    rf"|(?:is|are|was|can|could|would)\s*(?:not|n['’]t)\b|cannot\b|(?:is|are)\s+(?:never|wrong"
    rf"|incorrect|false)\b)"
    rf"|(?:\s*[^\W\d_]+){{0,4}}?\s+than\b[^.;!?]*\d)",
    re.IGNORECASE,
)
_NAMES = (
    r"(?:hours?|hrs?|h|minutes?|mins?|seconds?|secs?|days?|weeks?|months?|years?|feet|foot|ft"
    r"|inch(?:es)?|in|yards?|yd|miles?|mi|pounds?|lbs?|ounces?|oz|dollars?|cents?|pence|euros?"
    r"|kilometers?|kilometres?|km|meters?|metres?|m|centimeters?|cm|kilograms?|kg|grams?|g|liters?"
    r"|litres?|l|ml|degrees?|gallons?|quarts?|cups?)"
)
# "2 hours and 40 minutes" is one value of two numbers
_COMPOUND = re.compile(rf"\s*{_NAMES}\b\.?,?\s+(?:and\s+)?\$?\d[\d.]*\s*{_NAMES}\b", re.IGNORECASE)
_IN_COMPOUND = re.compile(rf"\d\s*{_NAMES}\b\.?,?\s+(?:and\s+)?$", re.IGNORECASE)
_IS_NAMED = re.compile(rf"\s*{_NAMES}\b", re.IGNORECASE)


_FAR = 200  # characters, within which words belong to a number


def opens_before(text: str, end: int) -> bool:
    """Do the words before position `end` leave the number there open, "at least", or deny it?"""
    return _BEFORE.search(text, max(0, end - 40), end) is not None


def opens_after(text: str, start: int) -> bool:
    """Do the words from position `start` on change the number before it, "or more", or deny it?"""
    # not to the end of a text that may be nothing but blanks, each of which would be tried
    return any(words.match(text, start, start + _FAR) for words in (_AFTER, _COMPOUND))


def in_compound(text: str, start: int, end: int) -> bool:
    """Is the number from `start` to `end` the second one of "2 hours and 40 minutes"?"""
    before = _IN_COMPOUND.search(text, max(0, start - 40), start)
    return before is not None and _IS_NAMED.match(text, end, end + _FAR) is not None


_OPEN = re.compile(
    r"\b(?:not|never|than|least|most|over|under|above|below|near|nearly|almost|between|either"
    r"|neither|nor|except|minus|negative|half|twice|double|triple|squared|cubed|or\s+(?:more|less"
    r"|fewer|so))\b|n['’]t\b",
    re.IGNORECASE,
)


def is_said(text: str) -> bool:
    """Does it hold a word that `symbols` reads, or that `is_open` does?"""
    return _ANY.search(text) is not None or _OPEN.search(text) is not None


def is_open(text: str) -> bool:
    """Does the statement hold a word that computer algebra would drop, and that changes it?"""
    return _OPEN.search(text) is not None
