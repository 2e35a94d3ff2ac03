"""Where a text states its answer, for every kind of question. No JAX.

The first of these that is there:

    1. what follows "final answer", where that comes after the last box
    2. the last box that is not empty, with those beside it ("\\boxed{1} and \\boxed{2}")
    3. the content of <answer> (`sections`), where it is one line
    4. what follows the last "answer is", "answer:" or "####" that is followed by anything
    5. what the text ends on: the last formula or number, the last label

`marked` yields 1 to 4, and `ending` is 5 for a number; `sentence` reads one line of prose.
"""

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from sar_jax.text.answers import algebra, quantities, spoken, times
from sar_jax.text.answers.quantities import LONGEST_STATEMENT, NUMBER, WORDS, Quantity, quantity
from sar_jax.text.answers.sections import Section

_BOX = r"\\(?:boxed|fbox|framebox)\s*"
_OPENING = re.compile(_BOX + r"\Z")
_BARE_BOX = re.compile(_BOX + r"(?=[^\s{$])((?:\\[a-zA-Z]+)?(?:\{[^{}]*\})*[^\s{}$\\,;]*)")
# What makes a box a part of a formula: -\boxed{4}, \boxed{4}^2. A dash has a space after it.
_FACTOR = re.compile(r"\s*(?:\^|\\times|\\cdot|\*(?!\*)|×)")
_EMPTY = re.compile(r"(?:[\s{}$~?.]|\\[a-z]*text[a-z]*|\\[ ,;!]|\\q?quad)*")
_MARKER = re.compile(
    r"[aA](?<!\w[aA])(?i:nswer)(?:[sS]?[*_`\s]{0,4}(?i:"
    r"(?:is|are|equals?|(?:would|should|must|will)\s+be)\b(?!n['’]t)[*_\s]{0,4}:?|[:=]|-(?=\s))"
    r"|[*_]*[ \t]*(?=\n))|####"
)
_NO_MARKER = re.compile(
    r"\b(?:wrong|incorrect|not|whose|if)\s+(?:the\s+)?(?:\w+\s+)?$", re.IGNORECASE
)
_FINAL = re.compile(r"final\s+$", re.IGNORECASE)
# Single dollars have no space on their inner side, or a LaTeX command between them: other dollars
# are money.
_MATHS = re.compile(
    r"\$\$([^$]{1,500})\$\$|\$(?=\S)([^$\n]{1,500})(?<=\S)\$(?!\d)"
    r"|\$(?=[^$\n]*\\[a-zA-Z])([^$\n]{1,500})\$(?!\d)"
    r"|\\\((.{1,500}?)\\\)|\\\[(.{1,500}?)\\\]",
    re.DOTALL,
)
_DISPLAY = re.compile(
    r"\s*(?:\$\$([^$]{1,500})\$\$|\\\[(.{1,500}?)\\\]"
    r"|\\begin\{((?:align|equation|gather|multline)\*?)\}(.{1,500}?)\\end\{\3\})",
    re.DOTALL,
)
_IS = re.compile(r"\s*(?:(?:is|are|equals?)\b|=)\s*:?\s*(?=\S)")
# Between two boxes that are one answer: nothing but separators, or a few words with "and" or "or",
# and no conclusion.
_SEPARATORS = re.compile(r"[\s,;$&()\[\]\\]*")
_CONCLUSIONS = set("so then thus hence therefore finally finds gives get gets total is are".split())
_RATIO = re.compile(r"\d+\s*:\s*\d+")
_DECIMAL_COMMA = re.compile(r"[\s$]*-?\d+,\d+[\s$]*")
# Around the number in a sentence: signs that make it a part of an expression or of a list.
_OPEN = re.compile(r"[\\^_√(\[{|<>]|[a-zA-Z0-9)\]}]\s*[-+*/×·]\s*$")
_CONTINUES = re.compile(
    r"\s*(?:[\\^*+×·/√π<>]|\((?!\s*[A-Za-z]{2})|-\s*[$]?[\d\\(]"
    r"|(?:,|\s(?:and|or)\s)\s*[-$]?[\d\\(]|\s?:\s?\d|!(?=[.\s]*$)(?<=\d!))"
    r"|[xyzabcnktrpqij]\b"
)
_ANOTHER = re.compile(r"\b(?:and|or|nor|but)\b(?!\s+not\b)[^.;()=]*\d", re.IGNORECASE)
# From here on a sentence explains, or goes on about something else.
_EXPLAINS = re.compile(
    r"\s+\((?=[^()]*[A-Za-z]{2})[^()]*\)?|,?\s+(?:because|since|as|which|where|when|if|although"
    r"|though)\b|\s*—|,\s+that\s+is\b"
)
_DENIED = re.compile(r"\bnot\s+[^,.;]{1,60}?,?\s+but\s+(?:rather\s+)?", re.IGNORECASE)
_BEGINNING = re.compile(r"[\s*_:>]*")
_STOP = re.compile(r"[.;!?](?:\s|$)")
_DIGIT = re.compile(r"\d")
_RETRACTED = re.compile(r"\?\s+(?:no|not|wrong)\b", re.IGNORECASE)
_ASSIGNMENTS = re.compile(r"=(?:[^=.]|\.\d)*(?:[,;]|\band\b)\s*\$?\s*[^\W\d]\w*\s*=")
# "x = 20 and y = 21" at the end: two unknowns, and not the last one's value
_TWO_UNKNOWNS = re.compile(
    r"(?<!\w)[A-Za-z]\s*=\s*\$?-?[\d.,/]*\d\s*\$?\s*(?:[,;]|,?\s*and\b)\s*\$?\s*[A-Za-z]\s*="
    r"\s*\$?-?[\d.,/]*\d[\s.$*]*\Z"
)
_GIVES_UP = re.compile(
    r"\b(?:can\s?not|can['’]t|unable|unsure|not\s+sure|do(?:es)?\s*n(?:o|['’])t\s+know|no\s+idea)\b",
    re.IGNORECASE,
)
# a remark in brackets that ends the text, after a number: $18 (9 eggs at $2)
_ASIDE = re.compile(r"(?<=\d)(?:\s+[^\W\d_]+)?\s\((?=[^()]*[A-Za-z]{2})[^()]*\)(?=[\s.!*]*\Z)")
_ITEM = re.compile(r"\s*(?:(?:[-*•+>]|#{1,6})\s+|>\s*|\d{1,2}[.)]\s+(?=\S)|\([a-z]\)\s+)+")
_NOTHING = re.compile(r"[\s*_:`~.>#-]*|\s*`{3}\w*\s*|\s*</?[a-z]+>\s*")
_POWER = re.compile(r"(?<=[\w)])\*\*(?=[\d(-])(?!\S*\*\*\W)")  # 10**3, and not **10**
_MARKS = re.compile(r"[<*_`\"'‘“”✅✓✔☑]")  # one of which is in each of these
_QUOTED = re.compile(r"(?<![\w'’)}])['‘]([^'’\n]{1,60})['’](?!\w)")
_DECORATION = re.compile(
    r"</?(?:b|i|u|em|strong|span|p|div|code|sub|mark|answer|ans|center|font)\b[^<>]*>"
    r"|(?<![\w)}])(?:\*\*|__)|(?:\*\*|__)(?![\w({\\])|`+|[“”✅✓✔☑]|(?<![\w.])\\?\"(?=\S)|(?<=\S)\\?\"(?![\w.])",
    re.IGNORECASE,
)


class Span(NamedTuple):
    """A piece of a text, and what it states."""

    start: int
    end: int
    content: str


class Statement(NamedTuple):
    """An answer as a text states it.

    value     if it is a number
    is_exact  computer algebra may read it: no word in it says "at least" or "not"
    """

    text: str
    value: Quantity | None
    is_exact: bool = True


def statement(text: str) -> Statement:
    """What is nothing but an answer, such as the content of a box."""
    if "\\text" in text or "\\mbox" in text:
        said = lambda match: f" {match[1]} " if spoken.is_said(match[1]) else match[0]
        text = WORDS.sub(said, text)
    text = spoken.symbols(undecorated(text))
    return Statement(text, quantity(text), not spoken.is_open(text))


def undecorated(text: str) -> str:
    """A line without tags, quotes, bold and code marks around what it says."""
    if not _MARKS.search(text):
        return text.strip()
    if "**" in text:
        text = _POWER.sub("^", text)
    return _QUOTED.sub(r"\1", _DECORATION.sub("", text)).strip()


def boxes(text: str) -> list[Span]:
    """Every closed \\boxed{...} that is not empty, nested ones too, by start; in one pass.

    The last one may have no braces, and holds what follows it up to a space: \\boxed 7.
    """
    open_braces, found = [], []
    if "box" not in text:
        return found
    for i in (m.start() for m in re.finditer(r"[{}]", text)):
        if text[i] == "{":
            open_braces.append(i)
        elif open_braces:
            brace = open_braces.pop()
            command = _OPENING.search(text, max(0, brace - 12), brace)
            content = text[brace + 1 : i]
            if command and not _EMPTY.fullmatch(content):
                found.append(Span(command.start(), i + 1, content))
    bare = [Span(*box.span(), box[1]) for box in _BARE_BOX.finditer(text)]
    bare = [box for box in bare[-1:] if not _EMPTY.fullmatch(box.content)]
    return sorted(found) if found and not (bare and bare[0] > max(found)) else bare


def together(text: str, backwards: Iterable[Span]) -> Span | None:
    """The last of the text's spans with those beside it, as one: a list, "1, 2"."""
    contents, begin, last = [], 0, None
    for start, end, content in backwards:
        if last is None:
            last = end
        elif end > begin or begin - end > LONGEST_STATEMENT or not _beside(text[end:begin]):
            break
        begin = start
        contents.insert(0, content.strip())
    return None if last is None else Span(begin, last, ", ".join(dict.fromkeys(contents)))


def _beside(gap: str) -> bool:
    """Do the two boxes, or the two formulas, before and after this text state one answer?"""
    gap = re.sub(r"\\[a-zA-Z]+|_\s*(?:\w|\{\w*\})", " ", WORDS.sub(r" \1 ", gap))
    words = set(re.findall(r"[^\W\d_]+", gap.lower()))
    if not words:
        return _SEPARATORS.fullmatch(gap) is not None and "\n" not in gap.strip(" ")
    is_list = bool(words & {"and", "or"}) and len(words) <= 4
    concludes = bool(words & _CONCLUSIONS) or re.search(r"[\d.!?]", gap) is not None
    return is_list and not concludes


def formulas(text: str) -> Iterator[Span]:
    """Each formula, without the comma or full stop in it that closes the sentence."""
    for match in _MATHS.finditer(text):
        content = next(g for g in match.groups() if g is not None)
        content = re.sub(r"(?<![\s.,])\s*[.,;:]?\s*$", "", content).strip()
        yield Span(match.start(), match.end(), content)


def sentence(text: str) -> Statement:
    """The answer that a sentence states.

    Its first formula, else the first number after its last "=", else all of it.
    """
    text = undecorated(text)
    if spans := list(formulas(text)):
        start, end, content = spans[0]
        if not _DIGIT.search(text[:start]):
            if re.fullmatch(r"[^\d=<>+*/^-]+", content) and (verb := _IS.match(text, end)):
                return sentence(text[verb.end() :])  # "the length of $AB$ is 5"
            beside = (_beside(text[a.end : b.start]) for a, b in itertools.pairwise(spans))
            count = 1 + sum(1 for _ in itertools.takewhile(bool, beside))
            whole = together(text, reversed(spans[:count]))
            is_open = spoken.opens_before(text, start) or spoken.opens_after(text, whole.end)
            is_open = is_open and not text.startswith(" of ", whole.end)
            stated = statement(whole.content)
            return Statement(text, None, False) if is_open else stated
        text = text[:start].rstrip(" =") or text  # "5, as $x = 7$ shows"
    if _RETRACTED.search(text) or _ASSIGNMENTS.search(text):
        return Statement(text.strip(" .:*"), None, not _RETRACTED.search(text))
    text = _DENIED.sub("", _STOP.split(text)[0])
    return _prose(spoken.symbols(text.strip(" :*")))


def _prose(text: str) -> Statement:
    """The answer of a sentence without a formula before its number."""
    first = _EXPLAINS.split(text)[0]
    text = first if _DIGIT.search(first) else text
    if (value := quantity(text)) is not None or times.time(text):
        return Statement(text, value)
    start = text.rfind("=") + 1
    for found in NUMBER.finditer(text, start):
        if spoken.opens_before(text, found.start()) or spoken.opens_after(text, found.end()):
            return Statement(text, None, False)
        if _OPEN.search(text, start, found.start()) or _CONTINUES.match(text, found.end()):
            return Statement(text, None, not spoken.is_open(text))
        if _ANOTHER.search(text, found.end()):
            return Statement(text, None, False)
        return Statement(quantities.shown(text, found), quantities.read(found))
    return Statement(text, None, not spoken.is_open(text))


def lines_after_markers(text: str, start: int = 0, final: bool = False) -> Iterator[str]:
    """What follows each marker from `start` on, the last one first: a line, or a display formula.

    final   of "final answer" alone
    """
    markers = list(_MARKER.finditer(text, start))[-20:]
    for marker in reversed(markers):
        before = text[max(0, marker.start() - 30) : marker.start()]
        if final and not _FINAL.search(before) or _NO_MARKER.search(before):
            continue
        end = marker.start() + len(marker.group().rstrip())
        line = _line(text[end : end + LONGEST_STATEMENT])
        if line:
            yield line


def _line(rest: str) -> str:
    """The first line that says anything, or the items of a list.

    Without the marks of a list, a quote or a heading.
    """
    begun = _BEGINNING.match(rest).end()
    if display := _DISPLAY.match(rest, begun):
        content = next(g for g in display.groups()[::-1] if g)
        return "$" + " ".join(content.replace("&", "").split()) + "$"
    on_its_own, items = "\n" in rest[:begun], []
    for line in rest.split("\n"):
        item = _ITEM.match(line) if on_its_own else None
        if items and not item:
            break
        if not _NOTHING.fullmatch(line):
            items.append(line[item.end() if item else 0 :].strip(" \t\r:*"))
            if not item:
                break
        on_its_own = True
    return ", ".join(items)


def marked(section: Section) -> Statement | None:
    """What a cleaned text says its answer is; None where nothing marks one."""
    text = section.text
    if box := together(text, reversed(boxes(text))):
        after = _after_markers(text, box.end, final=True)
        return after or _boxed(text, box)
    if section.is_answer and "\n" not in text:
        marks = list(lines_after_markers(text))
        return sentence(marks[0]) if marks else _whole(text)
    return _after_markers(text)


def texts(section: Section) -> Iterator[str]:
    """What a text marks as its answer, for labels: each candidate, the first one first."""
    text = section.text
    box = together(text, reversed(boxes(text)))
    if box:
        yield from lines_after_markers(text, box.end, final=True)
        yield box.content
    if section.is_answer:
        yield text
    for line in lines_after_markers(text):
        yield _STOP.split(line)[0]


def _whole(text: str) -> Statement:
    stated = statement(text)
    return stated if stated.value is not None or not re.search(r"\s", text) else sentence(text)


def _boxed(text: str, box: Span) -> Statement:
    """A box, unless it is a factor of a formula: then all of that is what is stated."""
    if text[: box.start].endswith("-") and not re.search(r"[\w})]\s*-$", text[: box.start]):
        return statement(f"-({box.content})")
    if _FACTOR.match(text, box.end):
        rest = re.split(r"[$\n]", text[box.end : box.end + 50])[0]
        return Statement(f"({box.content}){rest}", None)
    return statement(box.content)


def _after_markers(text: str, start: int = 0, final: bool = False) -> Statement | None:
    """The last marker's statement that is a number or an expression, else the last one's words.

    final   of "final answer" alone, whose words do not count
    """
    words = None
    for line in itertools.islice(lines_after_markers(text, start, final), 10):
        stated = sentence(line)
        if stated.value is not None or not (stated.is_exact or words):
            return stated
        if len(stated.text) > 2 and algebra.is_expression(stated.text):
            return stated
        words = words or stated
    return None if final else words


def ending(text: str) -> Statement | None:
    """What a text ends on that marks no answer, and is asked for a number.

    All of it, if that is one number; else its last number, or the formula around it. A calculation
    that it breaks off, "10 - 3", is none: questions have such, too.
    """
    line = text.strip()
    # "- 5" may be an item of a list
    if not line.startswith("- ") and "\n" not in line and len(line) <= LONGEST_STATEMENT:
        if (whole := statement(line)).value:
            return whole
    text = _ASIDE.sub("", _DECORATION.sub("", _in_words(text)))
    last = max((m.start() for m in re.finditer(r"\d", text)), default=-1)
    if _GIVES_UP.search(text, last + 1) or _TWO_UNKNOWNS.search(text[-200:]):
        return None
    found_formulas = list(formulas(text))[::-1]
    for i, (start, end, _) in enumerate(found_formulas):
        if start <= last < end:
            content = together(text, found_formulas[i:]).content
            if algebra.is_expression(content):
                return statement(content)
    tail = text.strip().rpartition("\n")[2].rpartition("=")[2].strip(" .,;*_$")
    tail = re.sub(r"^[-*>#]+\s+", "", tail)
    if _DECIMAL_COMMA.fullmatch(tail) or _RATIO.fullmatch(tail):
        return Statement(tail, None)
    if len(tail) <= LONGEST_STATEMENT and algebra.is_bare(tail) and quantity(tail) is None:
        is_calculation = re.search(r"[-+*/×·,]|\b(?:and|or)\b", tail)
        return None if is_calculation else statement(tail)
    return _last_number(text)


def ending_ratio(text: str) -> Statement | None:
    """A ratio that a text ends on, "5:7"."""
    found = re.search(r"(?<![\d:.])\d+\s*:\s*\d+(?=[\s.*$]*\Z)", text[-LONGEST_STATEMENT:])
    return Statement(found.group(), None) if found else None


def is_ratio(text: str) -> bool:
    return _RATIO.fullmatch(text.strip()) is not None


def _in_words(text: str) -> str:
    """The text with its last sentence's words about numbers as symbols.

    Its cardinals too, where the text has no digits.
    """
    start = max(text.rstrip(" \n.!?*").rfind(end) for end in (". ", "\n", "! ", "? ")) + 1
    if len(text) - start > LONGEST_STATEMENT:
        return text
    has_digits = _DIGIT.search(text) is not None
    return text[:start] + spoken.symbols(text[start:], cardinals=not has_digits)


def _last_number(text: str) -> Statement | None:
    found = quantities.last_found(text)
    if found is None:
        return None
    text, start, end = found.string, found.start(), found.end()
    if spoken.opens_before(text, start) or spoken.opens_after(text, end):
        return None
    if spoken.in_compound(text, start, end):
        return None
    shown = quantities.shown(text, found)
    value = quantities.read(NUMBER.match(shown))
    return Statement(shown, value) if value else None
