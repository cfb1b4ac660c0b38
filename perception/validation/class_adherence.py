"""Does ground look like the class that it was asked to be? Zero-shot by the image tower, with a shuffled-prompt null.

Squares of the world outside its edits belong to the world's prompt, squares inside an edit to the edit's. The mean
cosine of the squares to their own prompt is ranked among those to the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from earthgen.pyramid import Box
from earthgen.tower import ImageTower
from perception.validation.drawing import beside, fitted
from perception.validation.edit_masks import touched, visible_edits
from perception.validation.findings import Check, Figure, Value, at_most, worst
from perception.validation.prompt_adherence import LEAST_PIXELS, P_FAIL, P_PASS
from perception.validation.squares import best_side, cut, inside
from perception.validation.subject import Subject, gsd_of
from perception.validation.words import cosines, others, rank_p_value

Mask = npt.NDArray[np.bool_]

_SHOWN = 6


def class_adherence(subject: Subject, tower: ImageTower | None, why_not: str = "") -> Check:
    """Rank the prompt of the world, and of each edit, among others."""
    rows: list[dict[str, Value]] = []
    figures: list[Figure] = []
    verdicts = []
    for zoom in subject.zooms if tower is not None else ():
        assert tower is not None
        box = subject.box(zoom)
        for what, prompt, mask in _asked(subject, box):
            side = best_side(mask)
            if side is None:
                continue
            squares = cut(subject.pixels(subject.now, box), inside(mask, side), side)
            texts = [prompt, *others(tower, [prompt])]
            near = cosines(tower, squares, gsd_of(box), texts).mean(axis=0)
            p_value = rank_p_value(float(near[0]), near[1:])
            verdicts.append(at_most(p_value, P_PASS, P_FAIL))
            best = [texts[index] for index in np.argsort(-near)[:3] if index]
            rows.append(
                {
                    "zoom": zoom,
                    "of": what,
                    "prompt": prompt,
                    "squares": f"{len(squares)} of {side} pixels",
                    "cosine": round(float(near[0]), 3),
                    "mean of other prompts": round(float(near[1:].mean()), 3),
                    "p": round(p_value, 3),
                    "nearest others": ", ".join(best),
                    "verdict": verdicts[-1],
                }
            )
            figures.append(Figure(fitted(beside(squares[:_SHOWN])), f'Zoom {zoom}, {what}: asked for "{prompt}"'))
    found = "; ".join(f"zoom {row['zoom']}, {row['prompt']}: p {row['p']}" for row in rows)
    return Check(
        "class",
        "Classes, zero-shot",
        "Is the prompt nearer to the ground that was made from it than other prompts are?",
        worst(verdicts),
        why_not or found or "nothing in sight was made from a prompt",
        f"passes up to p = {P_PASS:g}, fails above {P_FAIL:g}, warns between; the worst counts",
        "the usual level; the null is the vocabulary of layouts and searches, less what means nearly the same. Held-out"
        " real pictures of nine of the ten classes of EuroSAT lie at p < 0.02, those of grassland with shrubs at 0.054",
        tuple(rows),
        tuple(figures),
    )


def _asked(subject: Subject, box: Box) -> Iterator[tuple[str, str, Mask]]:
    """What the ground was asked to be, and where: bool (h, w)."""
    world = subject.now.world
    if world.prompt:
        yield "the world", world.prompt, ~touched(world, box)
    for number, (edit, mask) in enumerate(visible_edits(world, box, LEAST_PIXELS)):
        if edit.action == "prompt":
            yield f"edit {number + 1}", edit.prompt, mask
