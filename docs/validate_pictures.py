"""Two reports as pictures for docs/validate.md: chromium draws the pages that `earthgen validate` wrote.

python docs/validate_pictures.py earth.html prompt.html
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

_WIDTH, _SHOWN = 1200, 800
_PICTURES = Path(__file__).parent / "pictures"


def main(
    earth: Annotated[Path, typer.Argument(metavar="EARTH.html", help="report of the real Earth")],
    prompt: Annotated[Path, typer.Argument(metavar="PROMPT.html", help="report of a world by prompt")],
    height: Annotated[int, typer.Option(help="pixels of the page that are drawn")] = 2000,
) -> None:
    """Write docs/pictures/validate-earth.jpg and validate-prompt.jpg."""
    for name, page in (("earth", earth), ("prompt", prompt)):
        with tempfile.TemporaryDirectory() as folder:
            drawn = Path(folder) / "page.png"
            options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
            size = f"--window-size={_WIDTH},{height}"
            subprocess.run(
                ["chromium", *options, size, f"--screenshot={drawn}", page.resolve().as_uri()],
                check=True,
                capture_output=True,
            )
            with Image.open(drawn) as picture:
                small = picture.convert("RGB").resize(
                    (_SHOWN, round(height * _SHOWN / _WIDTH)), Image.Resampling.LANCZOS
                )
        path = _PICTURES / f"validate-{name}.jpg"
        small.save(path, quality=82, optimize=True)
        typer.echo(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    typer.run(main)
