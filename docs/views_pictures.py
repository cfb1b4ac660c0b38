"""Make docs/pictures/views.jpg: held-out poses of a fitted scene, what the field renders beside the truth.

    python docs/views_pictures.py --scene runs/multiview/seed-11

The folder is one that `earthgen views -o DIR --fit` made. A row is a held-out pose: colours, classes and depth, the
truth first, the field's after it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image, ImageDraw, ImageFont

from perception.multiview.flight import depth_colours, legend_colours
from perception.multiview.posed import read_views
from perception.multiview.running import FieldRun, FitSettings

CELL, GAP, HEADER = 160, 4, 22
TITLES = ("true colours", "field", "true classes", "field", "true depth", "field")


def main(
    scene: Annotated[Path, typer.Option(help="Folder of views, with field.pt or without.")],
    steps: Annotated[int, typer.Option(help="Of the colour stage, as when it was fitted.")] = 1200,
    rows: Annotated[int, typer.Option(help="Held-out poses.")] = 3,
    output: Annotated[Path, typer.Option(help="Picture to write.")] = Path("docs/pictures/views.jpg"),
) -> None:
    """Fit, or go on, and draw."""
    posed = read_views(scene)
    run = FieldRun(posed, FitSettings(steps, steps // 2), scene)
    run.resume()
    fitted = run.run()
    shown = posed.held_out[:rows]
    sheet = Image.new("RGB", (len(TITLES) * (CELL + GAP), HEADER + len(shown) * (CELL + GAP)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for column, title in enumerate(TITLES):
        draw.text((column * (CELL + GAP) + 4, 3), title, fill="black", font=font)
    for row, number in enumerate(shown):
        truth = posed.views[number]
        view = fitted.render(truth.camera)
        near, far = float(truth.depth[truth.depth > 0].min()), float(truth.depth.max())
        cells = []
        for make in (lambda v: v.colours, lambda v: legend_colours(v.labels)):
            cells += [make(truth), make(view)]
        cells += [depth_colours(truth.depth, near, far), depth_colours(view.depth, near, far)]
        for column, pixels in enumerate(cells):
            picture = Image.fromarray(np.ascontiguousarray(pixels)).resize((CELL, CELL), Image.Resampling.NEAREST)
            sheet.paste(picture, (column * (CELL + GAP), HEADER + row * (CELL + GAP)))
    sheet.save(output, quality=88)


if __name__ == "__main__":
    typer.run(main)
