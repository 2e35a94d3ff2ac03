"""The project's pages as tests read them: paragraphs, links, headings, and the commands that they
show."""

import dataclasses
import pathlib
import re
import shlex

from support.commands import ROOT

PAGES = sorted(page for place in (".", "docs", "examples") for page in (ROOT / place).glob("*.md"))
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`]+)`")
_ASSIGNMENT = re.compile(r"[A-Z_]+=.*", re.DOTALL)
# Words that the shell itself knows; what follows `do` is a command again.
_SHELL = {"do", "done", "wait"}


@dataclasses.dataclass(frozen=True)
class Command:
    """words: as a shell would pass them; environment: what is set before them."""

    page: pathlib.Path
    words: tuple[str, ...]
    environment: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {' '.join(self.words)}"


def fences(text: str, *languages: str) -> list[str]:
    """What is in the fences of these languages."""
    return [body for _, language, body in _FENCE.findall(text) if language in languages]


def prose(text: str) -> str:
    """The page without what is in fences."""
    return _FENCE.sub("", text)


def paragraphs(text: str) -> list[str]:
    """Runs of lines between empty ones, without headings and tables; an item of a list is one."""
    found, block = [], []
    for line in [*prose(text).splitlines(), ""]:
        item = re.match(r" *([-*]|\d+\.) ", line)
        if not line.strip() or line.startswith(("#", "|")) or item:
            found += ["\n".join(block)] if block else []
            block = []
        if line.strip() and not line.startswith(("#", "|")):
            block.append(line)
    return found


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


def links(text: str) -> list[str]:
    """Targets of links and images."""
    return _LINK.findall(_CODE.sub("", prose(text)))


def code(text: str) -> list[str]:
    """What is marked as code within the prose, tables included."""
    return [piece.replace("\\|", "|") for piece in _CODE.findall(prose(text))]


def split(line: str) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The simple commands of a shell line: (words, environment) of each."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&;|<>")
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("&;|"):
            found.append([])
        elif word not in _SHELL:
            found[-1].append(word)
    commands = []
    for words in found:
        count = next((i for i, w in enumerate(words) if not _ASSIGNMENT.fullmatch(w)), len(words))
        if words[count:] and words[0] != "for":
            commands.append((tuple(words[count:]), tuple(words[:count])))
    return commands


def commands() -> list[Command]:
    """Every command in a shell fence of a page, and every one that its prose shows as code."""
    found = []
    for page in PAGES:
        text = page.read_text()
        lines = [
            line
            for fence in fences(text, "sh", "bash")
            for line in fence.replace("\\\n", " ").splitlines()
        ]
        for piece in code(text):
            if re.match(r"sar_jax \w+ ", piece):
                # options that may be left out are checked like the others
                piece = re.sub(r"\[--config\.any\.field=value\]|[\[\]]", "", piece)
            if re.match(r"(python|sar_jax|pytest|pip|launch/\w+\.sh) ", piece):
                lines.append(piece)
        exported: tuple[str, ...] = ()
        for line in lines:
            for words, environment in split(line):
                if words[0] == "export":
                    exported += words[1:]
                else:
                    if words[0] == "sar_jax" and len(words) > 1 and words[1][0] != "-":
                        words = ("python", "-m", f"sar_jax.{words[1]}", *words[2:])
                    found.append(Command(page, words, exported + environment))
    return found
