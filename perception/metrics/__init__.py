"""Scores of perception models: thin adapters over kept libraries, each saying whose definition it follows.

Counts come first and scores second: a confusion matrix or a list of per-sample values adds up over a data set, and can
be drawn again with replacement for a confidence interval (`bootstrap_interval`).
"""

from perception.metrics.answers import QuestionScores, RetrievalScores, question_scores, retrieval_scores
from perception.metrics.captions import CaptionScores, caption_scores, ptb_like
from perception.metrics.change import (
    BinaryScores,
    SemanticScores,
    binary_confusion,
    binary_scores,
    semantic_confusion,
    semantic_scores,
)
from perception.metrics.intervals import bootstrap_interval
from perception.metrics.referring import ReferringScores, overlap_counts, referring_scores

__all__ = [
    "BinaryScores",
    "CaptionScores",
    "QuestionScores",
    "ReferringScores",
    "RetrievalScores",
    "SemanticScores",
    "binary_confusion",
    "binary_scores",
    "bootstrap_interval",
    "caption_scores",
    "overlap_counts",
    "ptb_like",
    "question_scores",
    "referring_scores",
    "retrieval_scores",
    "semantic_confusion",
    "semantic_scores",
]
