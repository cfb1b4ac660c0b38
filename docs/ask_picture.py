"""Take the picture of docs/pictures/ask.jpg: a conversation on the map, from a running server, in a real browser.

    earthgen serve &
    python docs/ask_picture.py --base http://127.0.0.1:8000

The world is a forest by prompt, in which a town and a lake are made on the first of May. What the answers say is what
the server's detector finds; nothing is staged but the questions.
"""

from __future__ import annotations

import argparse
import json
import shutil
import urllib.request
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ARGUMENTS = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
SIZE = (1200, 780)
WAIT_MS = 900_000
DAY = "2026-05-01"
QUESTIONS = ("what changed here?", "how many hectares of forest were lost?", "and the new buildings?", "where?")


def square(longitude: float, latitude: float, side: float) -> list[list[float]]:
    """Corners of a square of `side` degrees."""
    half = side / 2
    return [[longitude + x * half, latitude + y * half] for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]


WORLD = {
    "root": "prompt",
    "prompt": "dense forest",
    "gsd": 2.4,
    "seed": 5,
    "edits": [
        {
            "polygon": square(-0.002, 0.0012, 0.0036),
            "prompt": "town with streets and houses",
            "valid_from": DAY,
        },
        {"polygon": square(0.0034, -0.0016, 0.0026), "prompt": "lake", "valid_from": DAY},
    ],
}


def register(base: str) -> str:
    """Make the world known; gives its name."""
    request = urllib.request.Request(
        f"{base}/worlds", json.dumps(WORLD).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request) as answer:
        return str(json.load(answer)["name"])


def converse(page: Page) -> None:
    """Ask, one question after the other; what is said is printed."""
    page.keyboard.press("a")
    for number, question in enumerate(QUESTIONS, start=1):
        page.fill("#ask-question", question)
        page.keyboard.press("Enter")
        answers = page.locator("#ask-log .answered, #ask-log .refused")
        answers.nth(number - 1).wait_for()
        print(f"{question}\n    {answers.nth(number - 1).locator('p').text_content()}")


def main() -> None:
    """Take the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="http://127.0.0.1:8000", help="address of the server")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "pictures" / "ask.jpg")
    options = parser.parse_args()
    name = register(options.base)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(ARGUMENTS))
        page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]}, reduced_motion="reduce")
        page.set_default_timeout(WAIT_MS)
        link = f"world={name}&projection=flat&z=16.00&lat=0.0000&lon=-0.0018&date={DAY}"
        page.goto(f"{options.base}/#{link}")
        page.wait_for_selector("html[data-map=idle]", state="attached")
        converse(page)
        # The answer that is drawn: what has become building and water.
        page.locator("#ask-question").blur()
        page.wait_for_timeout(3000)
        shot = page.screenshot()
        browser.close()
    Image.open(BytesIO(shot)).convert("RGB").save(options.out, quality=72, optimize=True)
    print(f"{options.out}: {options.out.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
