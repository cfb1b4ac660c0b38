"""Generation watched by perception: is a region of a world what it was asked to be, and does it look real?

    from earthgen import Engine, World
    from perception.validation import validate

    with Engine.open() as engine:
        report = validate(engine, World(seed=7), (11.3, 47.2, 11.4, 47.3), zooms=(14,))
    report.write_html("report.html")

    findings.py             checks, their verdicts and pictures; the report
    subject.py              what is validated: pixels of a region at zooms and on dates
    edit_masks.py           which pixels edits cover
    words.py                texts to compare with, and the tower's cosines
    anomaly.py              how far pictures lie from real ones: the numbers
    one validator a file    prompt_adherence, class_adherence, change_agreement, caption_agreement, seams,
                            lattice, parents, segmentation, realism (anomaly and spectrum)
    running.py              the validators in order
    html.py                 the report as one file
    cli.py                  `earthgen validate`

Names are loaded on first use, so that importing the package costs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perception.validation.anomaly import AnomalyScorer, Scores
    from perception.validation.findings import Check, Figure, Report, Verdict
    from perception.validation.running import CHECKS, validate

__all__ = ["CHECKS", "AnomalyScorer", "Check", "Figure", "Report", "Scores", "Verdict", "validate"]

_HOMES = {
    "AnomalyScorer": "perception.validation.anomaly",
    "CHECKS": "perception.validation.running",
    "Scores": "perception.validation.anomaly",
    "validate": "perception.validation.running",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'perception.validation' has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "perception.validation.findings")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
