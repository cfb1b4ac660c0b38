"""Scores of referring segmentation: one mask for one phrase.

The edges are RMSIN's where it has them (arXiv 2312.12470): a sample counts for Pr@t if its IoU is at least t. An empty
prediction of an empty truth is right here, IoU 1; RMSIN counts it as 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from earthgen.errors import InvalidRequestError

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True, slots=True)
class ReferringScores:
    """Scores in [0, 1].

    Attributes:
        mean_iou: mean of the samples' IoU (also called gIoU).
        overall_iou: all intersections over all unions (also called cIoU); big objects weigh more.
        precision_at: for each of THRESHOLDS, the share of samples whose IoU is at least that.
    """

    mean_iou: float
    overall_iou: float
    precision_at: dict[float, float]


def overlap_counts(predicted: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> tuple[int, int]:
    """Pixels of the intersection and of the union of two masks."""
    if predicted.shape != true.shape:
        raise InvalidRequestError(f"the prediction has shape {predicted.shape}; the truth has {true.shape}")
    return int((predicted & true).sum()), int((predicted | true).sum())


def referring_scores(counts: npt.NDArray[np.int64]) -> ReferringScores:
    """Scores of (n, 2) intersections and unions, one row a sample."""
    if len(counts) == 0:
        raise InvalidRequestError("no samples, so no score; give at least one")
    intersection, union = counts[:, 0], counts[:, 1]
    iou = np.where(union > 0, intersection / np.maximum(union, 1), 1.0)
    return ReferringScores(
        mean_iou=float(iou.mean()),
        overall_iou=float(intersection.sum() / union.sum()) if union.sum() else 1.0,
        precision_at={threshold: float((iou >= threshold).mean()) for threshold in THRESHOLDS},
    )
