"""Scores of change detection, binary and semantic.

Both are functions of one confusion matrix that has been summed over the whole test set: rows are what was predicted,
columns what is true. Means over images would be other numbers.

The semantic ones are those of the SECOND data set (Yang et al., arXiv 2010.05687): SeK and what goes
with it, over both dates at once, with code 0 for "no change".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from earthgen.errors import InvalidRequestError
from perception.optional import require


@dataclass(frozen=True, slots=True)
class BinaryScores:
    """Scores of the changed class, each in [0, 1]; a score without a denominator is 0."""

    precision: float
    recall: float
    f1: float
    iou: float
    overall_accuracy: float


@dataclass(frozen=True, slots=True)
class SemanticScores:
    """Scores over both dates.

    Attributes:
        mean_iou: mean of the IoU of "no change" and of "any change"; classes do not enter.
        sek: separated kappa, the kappa without pixels that are unchanged in both, times exp(IoU of change - 1).
        f_scd: harmonic mean of `precision_scd` and `recall_scd`.
        precision_scd: of the pixels predicted as changed, the share whose class is right.
        recall_scd: of the pixels truly changed, the share whose class is right.
        overall_accuracy: share of right pixels, unchanged ones included.
        score: 0.3 * mean_iou + 0.7 * sek, SECOND's ranking.
    """

    mean_iou: float
    sek: float
    f_scd: float
    precision_scd: float
    recall_scd: float
    overall_accuracy: float
    score: float


def _confusion(predicted: npt.NDArray[Any], true: npt.NDArray[Any], codes: int) -> npt.NDArray[np.int64]:
    if predicted.shape != true.shape:
        raise InvalidRequestError(f"the prediction has shape {predicted.shape}; the truth has {true.shape}")
    classification = require("torchmetrics.functional.classification", "perception")
    counted = classification.multiclass_confusion_matrix(
        torch.from_numpy(np.ascontiguousarray(predicted, dtype=np.int64)),
        torch.from_numpy(np.ascontiguousarray(true, dtype=np.int64)),
        num_classes=codes,
    )
    # torchmetrics puts the truth in rows.
    return np.asarray(counted.numpy().T, dtype=np.int64)


def binary_confusion(
    predicted: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_], known: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.int64]:
    """Count one image.

    Args:
        predicted: bool, any shape.
        true: bool, the same shape.
        known: where the truth is known; None means everywhere.

    Returns:
        int64 (2, 2): row predicted, column true, unchanged first.
    """
    if known is not None:
        predicted, true = predicted[known], true[known]
    return _confusion(predicted, true, 2)


def binary_scores(confusion: npt.NDArray[np.int64]) -> BinaryScores:
    """Precision, recall, F1, IoU of change, and overall accuracy of a (2, 2) matrix."""
    (true_negative, false_negative), (false_positive, true_positive) = confusion.tolist()
    return BinaryScores(
        precision=_share(true_positive, true_positive + false_positive),
        recall=_share(true_positive, true_positive + false_negative),
        f1=_share(2 * true_positive, 2 * true_positive + false_positive + false_negative),
        iou=_share(true_positive, true_positive + false_positive + false_negative),
        overall_accuracy=_share(true_positive + true_negative, int(confusion.sum())),
    )


def semantic_confusion(
    predicted: npt.NDArray[np.uint8], true: npt.NDArray[np.uint8], classes: int
) -> npt.NDArray[np.int64]:
    """Count both dates of one pair.

    Args:
        predicted: (2, h, w), 0 where the predicted change map says unchanged, else 1 + class.
        true: (2, h, w), the same from the true one.
        classes: how many classes there are, "no change" not counted.

    Returns:
        int64 (classes + 1, classes + 1): row predicted, column true.
    """
    return _confusion(predicted, true, classes + 1)


def semantic_scores(confusion: npt.NDArray[np.int64]) -> SemanticScores:
    """Every semantic score of a (K + 1, K + 1) matrix; one without a denominator is 0."""
    counts = confusion.astype(np.float64)
    total, unchanged = counts.sum(), counts[0, 0]
    predicted, true = counts.sum(axis=1), counts.sum(axis=0)

    # Change against no change, whatever the class.
    iou_unchanged = _share(unchanged, predicted[0] + true[0] - unchanged)
    iou_changed = _share(counts[1:, 1:].sum(), total - unchanged)
    mean_iou = (iou_unchanged + iou_changed) / 2

    # Kappa of all but the pixels that both sides call unchanged, since those are most of them.
    separated = counts.copy()
    separated[0, 0] = 0
    observed = _share(np.trace(separated), separated.sum())
    expected = _share(float(separated.sum(axis=1) @ separated.sum(axis=0)), separated.sum() ** 2)
    kappa = _share(observed - expected, 1 - expected)
    sek = kappa * math.exp(iou_changed - 1)

    right = np.trace(counts[1:, 1:])
    precision = _share(right, predicted[1:].sum())
    recall = _share(right, true[1:].sum())
    return SemanticScores(
        mean_iou=mean_iou,
        sek=sek,
        f_scd=_share(2 * precision * recall, precision + recall),
        precision_scd=precision,
        recall_scd=recall,
        overall_accuracy=_share(np.trace(counts), total),
        score=0.3 * mean_iou + 0.7 * sek,
    )


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0
