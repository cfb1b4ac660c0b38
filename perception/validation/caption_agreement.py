"""Does a captioner say what the edits did?

What it says of two states is compared with the prompts of the edits between them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from earthgen.conditioning import TextEncoder
from earthgen.errors import EarthgenError
from perception.captioner import ChangeCaptioner
from perception.pair import Pair
from perception.validation.change_agreement import MOST_SIDE, window_around
from perception.validation.drawing import ASKED, beside, fitted, outlined
from perception.validation.edit_masks import changed, visible_edits
from perception.validation.findings import Check, Figure, Value, Verdict, at_most, worst
from perception.validation.prompt_adherence import LEAST_PIXELS, P_FAIL, P_PASS
from perception.validation.subject import Moment, Subject
from perception.validation.words import ALIKE, VOCABULARY, rank_p_value

NO_CHANGE = (
    "there is no difference",
    "the two scenes seem identical",
    "the scene is the same as before",
    "no change has occurred",
    "almost nothing has changed",
    "nothing has changed",
    "no area has changed",
    "the land cover is the same as before",
    "the ground is the same on both dates",
)
"""How captions say that nothing changed: the first five as in LEVIR-CC, the rest as our captioners learn it."""
_SAYS_NOTHING = 0.7
"""Cosine to one of them from which on a caption says the same."""


def caption_agreement(
    subject: Subject, captioners: Sequence[ChangeCaptioner], text: TextEncoder | None, why_not: str = ""
) -> Check:
    """Caption every pair, and rank the prompts of its edits among others by their nearness to the caption."""
    rows: list[dict[str, Value]] = []
    figures: list[Figure] = []
    verdicts: list[Verdict] = []
    for zoom in subject.zooms if captioners and text is not None else ():
        assert text is not None
        box = subject.box(zoom)
        for before, after in subject.pairs:
            asked, _ = changed(before.world, after.world, box)
            part = window_around(asked, MOST_SIDE)
            first, second = (np.ascontiguousarray(subject.pixels(each, box)[part]) for each in (before, after))
            pair = Pair(first, second)
            prompts = _prompts(subject, zoom, before, after)
            if asked.any() and not prompts:
                continue  # Presets and other seeds have no words.
            of_this: list[Verdict] = []
            for captioner in captioners:
                said, why_silent = _said(captioner, pair)
                silent, p_value = (False, None) if why_silent else _heard(text, said, prompts)
                if why_silent:
                    of_this.append("not applicable")
                elif not asked.any():
                    of_this.append("pass" if silent else "fail")
                else:
                    assert p_value is not None
                    of_this.append("fail" if silent else at_most(p_value, P_PASS, P_FAIL))
                rows.append(
                    {
                        "zoom": zoom,
                        "from": before.name,
                        "to": after.name,
                        "captioner": captioner.name,
                        "says": said or why_silent,
                        "edits": ", ".join(prompts) or "none in sight",
                        "p": None if p_value is None else round(p_value, 3),
                        "verdict": of_this[-1],
                    }
                )
            order: tuple[Verdict, ...] = ("pass", "warn", "fail", "not applicable")
            verdicts.append(next(verdict for verdict in order if verdict in of_this))
            seen = [pair.before, outlined(pair.after, asked[part], ASKED, 2)]
            figures.append(Figure(fitted(beside(seen), 1280), f"Zoom {zoom}, {before.name} and {after.name}"))
    found = "; ".join(f'{row["captioner"]}: "{row["says"]}"' for row in rows)
    reason = why_not or ("" if subject.pairs else "there are no two states to compare: give edits, or two dates")
    return Check(
        "caption",
        "Captions of changes",
        "Does a captioner speak of what the edits between two states brought, and of no change where there is none?",
        worst(verdicts),
        reason or found or "no edit by prompt lies between the states",
        f"passes if the prompts of the edits rank at p = {P_PASS:g} or less among others by nearness to the caption,"
        f" fails above {P_FAIL:g} or if it says that nothing changed, warns between; the best captioner counts, and the"
        " worst pair",
        "the usual level; the null is the vocabulary of layouts and searches, less what means nearly the same",
        tuple(rows),
        tuple(figures),
    )


def _prompts(subject: Subject, zoom: int, before: Moment, after: Moment) -> list[str]:
    """Prompts of the edits of the later state that the earlier one lacks."""
    seen = visible_edits(after.world, subject.box(zoom), LEAST_PIXELS)
    return list(dict.fromkeys(edit.prompt for edit, _ in seen if edit.prompt and edit not in before.world.edits))


def _said(captioner: ChangeCaptioner, pair: Pair) -> tuple[str, str]:
    """A captioner's sentence, or "" and why it has none, as without its language model."""
    try:
        return captioner.caption(pair).text, ""
    except EarthgenError as error:
        return "", str(error)


def _heard(text: TextEncoder, said: str, prompts: Sequence[str]) -> tuple[bool, float | None]:
    """Whether a caption says that nothing changed, and the p-value of the prompts, if there are any."""
    nothing = text.encode_batch(list(NO_CHANGE))
    sentence = text.encode_batch([said])[0]
    silent = bool((nothing @ sentence).max() >= _SAYS_NOTHING)
    if not prompts:
        return silent, None
    own = text.encode_batch(list(prompts))
    vocabulary = text.encode_batch(list(VOCABULARY))
    null = vocabulary[(vocabulary @ own.T).max(axis=1) < ALIKE]
    return silent, rank_p_value(float((own @ sentence).max()), (null @ sentence).astype(np.float64))
