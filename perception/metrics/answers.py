"""Scores of change question answering and of text-to-change retrieval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from earthgen.errors import InvalidRequestError
from perception.optional import require

RANKS = (1, 5, 10)


@dataclass(frozen=True, slots=True)
class QuestionScores:
    """Shares of right answers.

    Attributes:
        overall_accuracy: over all questions.
        average_accuracy: mean over the kinds of question, each weighing the same.
        by_kind: the accuracy of each kind.
    """

    overall_accuracy: float
    average_accuracy: float
    by_kind: dict[str, float]


@dataclass(frozen=True, slots=True)
class RetrievalScores:
    """Share of queries with a right item among the first k, for each of RANKS, and their mean."""

    recall_at: dict[int, float]
    mean_recall: float


def question_scores(predicted: Sequence[str], true: Sequence[str], kinds: Sequence[str]) -> QuestionScores:
    """Compare answers word for word.

    Args:
        predicted: the answers given.
        true: the right answers.
        kinds: the kind of each question.
    """
    if not len(predicted) == len(true) == len(kinds) or not predicted:
        raise InvalidRequestError(
            f"{len(predicted)} answers, {len(true)} truths and {len(kinds)} kinds; as many of each, at least one"
        )
    right = np.array([given == wanted for given, wanted in zip(predicted, true, strict=True)])
    each = np.array(kinds)
    by_kind = {str(kind): float(right[each == kind].mean()) for kind in np.unique(each)}
    return QuestionScores(float(right.mean()), float(np.mean(list(by_kind.values()))), by_kind)


def retrieval_scores(similarity: npt.NDArray[np.floating], relevant: npt.NDArray[np.bool_]) -> RetrievalScores:
    """Rank items for each query.

    Args:
        similarity: (queries, items), larger is nearer.
        relevant: bool, the same shape; several items may be right for a query (equal captions are).
    """
    if similarity.shape != relevant.shape or similarity.ndim != 2 or 0 in similarity.shape:
        raise InvalidRequestError(f"similarity {similarity.shape} and relevant {relevant.shape}; two equal (q, i)")
    retrieval = require("torchmetrics.functional.retrieval", "perception")
    scores, wanted = torch.from_numpy(np.array(similarity)), torch.from_numpy(np.array(relevant))
    recall_at = {
        rank: float(
            np.mean([retrieval.retrieval_hit_rate(s, w, top_k=rank) for s, w in zip(scores, wanted, strict=True)])
        )
        for rank in RANKS
    }
    return RetrievalScores(recall_at, float(np.mean(list(recall_at.values()))))
