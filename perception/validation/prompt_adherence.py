"""Is what was asked for where it was asked for? Squares inside each edit against those around it, by the image tower.

The tower's cosine to the edit's prompt has to be higher inside than outside, and by more than for prompts that were not
given: the p-value is the rank of the difference among those of the vocabulary, a shuffled-prompt null.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from earthgen.tower import ImageTower
from perception.validation.drawing import ASKED, beside, fitted, heat, outlined
from perception.validation.edit_masks import touched, visible_edits
from perception.validation.findings import Check, Figure, Value, at_most, worst
from perception.validation.squares import best_side, cut, inside
from perception.validation.subject import Subject, gsd_of
from perception.validation.words import cosines, others, rank_p_value

LEAST_PIXELS = 1024
"""Pixels of an edit from which on it is looked at: a square of 32."""
P_PASS, P_FAIL = 0.05, 0.2


def prompt_adherence(subject: Subject, tower: ImageTower | None, why_not: str = "") -> Check:
    """Compare inside and outside of every edit by prompt that is in sight, at every zoom."""
    rows: list[dict[str, Value]] = []
    figures: list[Figure] = []
    verdicts = []
    world = subject.now.world
    for zoom in subject.zooms if tower is not None else ():
        assert tower is not None
        box = subject.box(zoom)
        plain = ~touched(world, box)
        for number, (edit, mask) in enumerate(visible_edits(world, box, LEAST_PIXELS)):
            side = best_side(mask) if edit.action == "prompt" else None
            if side is None:
                continue
            here, there = inside(mask, side), inside(plain, side)
            if not there:
                continue
            pixels = subject.pixels(subject.now, box)
            texts = [edit.prompt, *others(tower, [edit.prompt])]
            within, without = (
                cosines(tower, cut(pixels, places, side), gsd_of(box), texts) for places in (here, there)
            )
            differences = within.mean(axis=0) - without.mean(axis=0)
            p_value = rank_p_value(float(differences[0]), differences[1:])
            verdicts.append(at_most(p_value, P_PASS, P_FAIL))
            rows.append(
                {
                    "zoom": zoom,
                    "edit": number + 1,
                    "prompt": edit.prompt,
                    "squares inside, outside": f"{len(here)}, {len(there)} of {side} pixels",
                    "cosine inside": round(float(within[:, 0].mean()), 3),
                    "cosine outside": round(float(without[:, 0].mean()), 3),
                    "AUROC": round(_auroc(within[:, 0], without[:, 0]), 3),
                    "p": round(p_value, 3),
                    "grew more than it": ", ".join(_better(texts, differences)) or "nothing",
                    "verdict": verdicts[-1],
                }
            )
            low, high = np.quantile(np.concatenate([within[:, 0], without[:, 0]]), (0.05, 0.95))
            shown = 3 - 3 * np.clip((np.concatenate([within[:, 0], without[:, 0]]) - low) / max(high - low, 1e-6), 0, 1)
            seen = heat(pixels, [(top, left, side) for top, left in here + there], shown.tolist())
            asked = outlined(pixels, mask, ASKED, max(1, min(mask.shape) // 200))
            caption = (
                f'Zoom {zoom}, "{edit.prompt}": where it was asked for; squares unlike (purple) to like it (green)'
            )
            figures.append(Figure(fitted(beside([asked, seen]), 1280), caption))
    return Check(
        "prompt",
        "Prompts of edits, by the image tower",
        "Does the ground inside each edit look more like its prompt than the ground around it, by more than for other"
        " prompts?",
        worst(verdicts),
        why_not or _found(rows),
        f"passes up to p = {P_PASS:g}, fails above {P_FAIL:g}, warns between; the worst edit counts",
        "the usual level; the null is the vocabulary of layouts and searches, less what means nearly the same",
        tuple(rows),
        tuple(figures),
    )


def _found(rows: list[dict[str, Value]]) -> str:
    if not rows:
        return "no edit by prompt is in sight with enough ground inside and around it"
    return "; ".join(f"zoom {row['zoom']}, {row['prompt']}: p {row['p']}, AUROC {row['AUROC']}" for row in rows)


def _better(texts: list[str], differences: npt.NDArray[np.float64]) -> list[str]:
    order = np.argsort(-differences)
    return [texts[index] for index in order[:3] if differences[index] > differences[0]]


def _auroc(inside: npt.NDArray[np.float64], outside: npt.NDArray[np.float64]) -> float:
    """Chance that a square inside lies higher than one outside; ties count a half."""
    apart = inside[:, None] - outside[None, :]
    return float((apart > 0).mean() + 0.5 * (apart == 0).mean())
