"""Takes the pictures of docs/gallery.md: pages of this package in headless Chromium, on two
finished runs and on answers scored by `sar_jax.explain`.

    pip install playwright
    python -m sar_jax.train --config=configs/tiny.py --workdir=runs/sa-grpo
    python -m sar_jax.train --config=configs/tiny.py --config.rewards.self_aligned=0 \\
        --workdir=runs/grpo
    python -m sar_jax.report runs/grpo runs/sa-grpo --output=report.html
    python -m sar_jax.explain --model=runs/sa-grpo --input=runs/grpo/samples \\
        --output=scored.jsonl --html=answers.html
    python docs/make_gallery.py report.html answers.html --chromium=/usr/bin/chromium

Without --chromium, the browser is the one that `playwright install chromium` fetched."""

import argparse
import pathlib
from typing import NamedTuple

from playwright.sync_api import Page, sync_playwright

FOLDER = pathlib.Path(__file__).parent / "gallery"
WIDE, NARROW, HIGH = 1280, 390, 800  # pixels


class Picture(NamedTuple):
    """A part of a page.

    page      "report" or "answers"
    heading   the section that is scrolled to; empty for the beginning
    press     keys after the first row of tokens has the focus
    """

    name: str
    page: str
    heading: str = ""
    width: int = WIDE
    scheme: str = "light"
    press: tuple[str, ...] = ()


PICTURES = (
    Picture("answers", "answers", press=("ArrowRight",) * 19),
    Picture("answers_dark_phone", "answers", width=NARROW, scheme="dark"),
    Picture("report", "report"),
    Picture("curves", "report", "Curves"),
    Picture("plane", "report", "Accuracy against length", scheme="dark"),
    Picture("before_and_after", "report", "The same question before and after (sa-grpo)"),
    Picture("report_phone", "report", "Before and after", width=NARROW),
)


def take(page: Page, picture: Picture) -> None:
    if picture.heading:
        page.locator("h2", has_text=picture.heading).first.evaluate("e => e.scrollIntoView()")
    if picture.press:
        page.locator(".tokens").first.focus()
        for key in picture.press:
            page.keyboard.press(key)
    page.wait_for_timeout(200)  # what is near the window is drawn
    page.screenshot(path=FOLDER / f"{picture.name}.png")


def main(files: dict[str, pathlib.Path], chromium: str | None) -> None:
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for picture in PICTURES:
            context = browser.new_context(
                viewport={"width": picture.width, "height": HIGH}, color_scheme=picture.scheme
            )
            page, problems = context.new_page(), []
            page.on("console", lambda message, to=problems: to.append(message.text))
            page.on("pageerror", lambda error, to=problems: to.append(str(error)))
            page.goto(files[picture.page].resolve().as_uri())
            across = page.evaluate("document.documentElement.scrollWidth")
            if problems or across > picture.width:
                raise SystemExit(f"{picture.name}: {problems}, {across} pixels wide")
            take(page, picture)
            context.close()
        browser.close()
    print(f"wrote {len(PICTURES)} pictures to {FOLDER}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=pathlib.Path)
    parser.add_argument("answers", type=pathlib.Path)
    parser.add_argument("--chromium")
    asked = parser.parse_args()
    main({"report": asked.report, "answers": asked.answers}, asked.chromium)
