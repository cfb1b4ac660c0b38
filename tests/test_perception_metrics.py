"""Scores: each against its published formula, written out again here, and against a second implementation."""

from __future__ import annotations

import math
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from earthgen.errors import InvalidRequestError
from perception.errors import DependencyError
from perception.metrics import (
    binary_confusion,
    binary_scores,
    bootstrap_interval,
    caption_scores,
    overlap_counts,
    ptb_like,
    question_scores,
    referring_scores,
    retrieval_scores,
    semantic_confusion,
    semantic_scores,
)
from perception.optional import require
from tests.fake_java import fake_java

few = settings(max_examples=25)
seeds = st.integers(0, 2**31)


# --- Binary change ---


@given(seeds, st.floats(0, 1), st.floats(0, 1))
@few
def test_binary_scores_are_those_of_scikit_learn(seed: int, changed: float, right: float) -> None:
    random = np.random.default_rng(seed)
    true = random.random((2, 9, 11)) < changed
    predicted = np.where(random.random(true.shape) < right, true, ~true)
    # Two images add up to one matrix; scores of the sum are scores of all pixels.
    counted = sum((binary_confusion(p, t) for p, t in zip(predicted, true, strict=True)), np.zeros((2, 2), np.int64))
    scores = binary_scores(counted)
    flat = true.ravel(), predicted.ravel()
    assert scores.precision == pytest.approx(sk.precision_score(*flat, zero_division=0))
    assert scores.recall == pytest.approx(sk.recall_score(*flat, zero_division=0))
    assert scores.f1 == pytest.approx(sk.f1_score(*flat, zero_division=0))
    assert scores.iou == pytest.approx(sk.jaccard_score(*flat, zero_division=0))
    assert scores.overall_accuracy == pytest.approx(sk.accuracy_score(*flat))
    assert scores.f1 == pytest.approx(2 * scores.iou / (1 + scores.iou))


def test_a_published_row_obeys_the_identity_of_f1_and_iou() -> None:
    # CDMamba's own table: F1 93.76 goes with IoU 88.26, 90.75 with 83.07, 83.01 with 70.95.
    for f1, iou in ((93.76, 88.26), (90.75, 83.07), (83.01, 70.95)):
        counted = np.array([[0, 0], [round(1e6 * (1 - iou / 100)), round(1e6 * iou / 100)]])
        assert 100 * binary_scores(counted).f1 == pytest.approx(f1, abs=0.01)


def test_unlabelled_pixels_do_not_count() -> None:
    true = np.array([True, False, True])
    known = np.array([True, True, False])
    counted = binary_confusion(np.array([True, False, False]), true, known)
    assert counted.tolist() == [[1, 0], [0, 1]]
    with pytest.raises(InvalidRequestError, match="shape"):
        binary_confusion(true, true[:2])


# --- Semantic change ---


def plain_semantic_scores(predicted: npt.NDArray[np.int64], true: npt.NDArray[np.int64]) -> dict[str, float]:
    """SECOND's scores pixel by pixel, the kappa by scikit-learn."""
    p, t = predicted.ravel(), true.ravel()
    unchanged = (p == 0) & (t == 0)
    iou_unchanged = unchanged.sum() / ((p == 0) | (t == 0)).sum()
    iou_changed = ((p > 0) & (t > 0)).sum() / (~unchanged).sum()
    kappa = sk.cohen_kappa_score(p[~unchanged], t[~unchanged])
    right = ((p == t) & (p > 0)).sum()
    precision, recall = right / (p > 0).sum(), right / (t > 0).sum()
    return {
        "mean_iou": (iou_unchanged + iou_changed) / 2,
        "sek": kappa * math.exp(iou_changed - 1),
        "f_scd": 2 / (1 / precision + 1 / recall),
        "overall_accuracy": (p == t).mean(),
    }


@given(seeds, st.integers(2, 6), st.floats(0.3, 0.95))
@few
def test_semantic_scores_are_those_of_single_pixels(seed: int, classes: int, right: float) -> None:
    random = np.random.default_rng(seed)
    true = random.integers(0, classes + 1, (2, 20, 20)) * (random.random((20, 20)) < 0.6)
    predicted = np.where(random.random(true.shape) < right, true, random.integers(0, classes + 1, true.shape))
    counted = semantic_confusion(predicted.astype(np.uint8), true.astype(np.uint8), classes)
    assert counted.sum() == 800
    scores = semantic_scores(counted)
    for name, value in plain_semantic_scores(predicted, true).items():
        assert getattr(scores, name) == pytest.approx(value), name
    assert scores.score == pytest.approx(0.3 * scores.mean_iou + 0.7 * scores.sek)


def test_a_perfect_semantic_prediction_scores_one_and_rows_are_predictions() -> None:
    truth = np.array([0, 0, 1, 2, 2], np.uint8)
    perfect = semantic_scores(semantic_confusion(truth, truth, 2))
    assert perfect.sek == perfect.f_scd == perfect.mean_iou == perfect.overall_accuracy == 1
    one_missed = semantic_scores(semantic_confusion(np.array([0, 0, 0, 2, 2], np.uint8), truth, 2))
    assert one_missed.precision_scd == 1
    assert one_missed.recall_scd == pytest.approx(2 / 3)


# --- Intervals ---


def test_the_interval_of_a_mean_has_its_width() -> None:
    samples = np.random.default_rng(0).normal(3.0, 1.0, 400)
    low, high = bootstrap_interval(samples, lambda drawn: float(drawn.mean()), seed=1, draws=400)
    assert low < samples.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.25)
    assert (low, high) == bootstrap_interval(samples, lambda drawn: float(drawn.mean()), seed=1, draws=400)
    with pytest.raises(InvalidRequestError, match="at least one"):
        bootstrap_interval(samples[:0], lambda drawn: 0.0, seed=1)


# --- Referring segmentation ---


@given(seeds)
@few
def test_referring_scores_are_those_of_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    true = random.random((12, 30)) < 0.5
    predicted = np.where(random.random(true.shape) < random.random((12, 1)), true, ~true)
    counts = np.array([overlap_counts(p, t) for p, t in zip(predicted, true, strict=True)])
    scores = referring_scores(counts)
    iou = [sk.jaccard_score(t, p) for p, t in zip(predicted, true, strict=True)]
    assert scores.mean_iou == pytest.approx(np.mean(iou))
    assert scores.overall_iou == pytest.approx(sk.jaccard_score(true.ravel(), predicted.ravel()))
    assert scores.precision_at[0.7] == pytest.approx(np.mean([value >= 0.7 for value in iou]))


def test_edges_of_referring_scores() -> None:
    scores = referring_scores(np.array([[5, 10], [0, 0], [90, 100]]))
    assert scores.precision_at[0.5] == 1  # IoU 0.5 counts at 0.5; nothing found where nothing is counts as right.
    assert scores.precision_at[0.9] == pytest.approx(2 / 3)
    assert scores.mean_iou == pytest.approx((0.5 + 1 + 0.9) / 3)
    assert scores.overall_iou == pytest.approx(95 / 110)
    with pytest.raises(InvalidRequestError, match="at least one"):
        referring_scores(np.zeros((0, 2), np.int64))


# --- Questions and retrieval ---


def test_average_accuracy_weighs_kinds_the_same() -> None:
    scores = question_scores(["yes", "no", "yes", "3"], ["yes", "yes", "yes", "4"], ["a", "a", "a", "b"])
    assert scores.overall_accuracy == 0.5
    assert scores.by_kind == {"a": pytest.approx(2 / 3), "b": 0}
    assert scores.average_accuracy == pytest.approx(1 / 3)
    with pytest.raises(InvalidRequestError, match="as many of each"):
        question_scores(["yes"], [], ["a"])


@given(seeds)
@few
def test_recall_at_k_is_that_of_sorting(seed: int) -> None:
    random = np.random.default_rng(seed)
    similarity, relevant = random.random((7, 15)), random.random((7, 15)) < 0.2
    relevant[:, 0] = True
    scores = retrieval_scores(similarity, relevant)
    order = np.argsort(-similarity, axis=1)
    for rank, value in scores.recall_at.items():
        found = [relevant[query, order[query, :rank]].any() for query in range(7)]
        assert value == pytest.approx(np.mean(found))
    assert scores.mean_recall == pytest.approx(np.mean(list(scores.recall_at.values())))
    if (relevant.argmax(axis=1) == 0).all():
        assert scores.recall_at[10] <= 1
    with pytest.raises(InvalidRequestError, match="two equal"):
        retrieval_scores(similarity, relevant[:3])


# --- Captions ---

SAID = [
    "a new road appears in the forest",
    "the scene is the same as before",
    "several houses are built along the road",
    "trees trees trees",
]
MEANT = [
    ["a road is built in the forest", "a new road crosses the forest", "the forest makes room for a road"],
    ["the scene is the same as before", "nothing has changed"],
    ["many houses have been built along the road", "some houses are built beside the road and trees"],
    ["trees were removed from the scene and houses were built there", "trees"],
]


def grams(tokens: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def plain_bleu(order: int) -> float:
    """Papineni et al. 2002, equation 1, over the corpus, with the closest reference length."""
    said, meant = [one.split() for one in SAID], [[one.split() for one in some] for some in MEANT]
    logs = 0.0
    for n in range(1, order + 1):
        right = total = 0
        for one, some in zip(said, meant, strict=True):
            most: Counter[tuple[str, ...]] = Counter()
            for reference in some:
                most |= grams(reference, n)
            right += sum((grams(one, n) & most).values())
            total += max(0, len(one) - n + 1)
        logs += math.log(right / total) / order
    given = sum(map(len, said))
    closest = sum(
        min((abs(len(reference) - len(one)), len(reference)) for reference in some)[1]
        for one, some in zip(said, meant, strict=True)
    )
    return math.exp(logs + min(0.0, 1 - closest / given))


def plain_rouge_l() -> float:
    """Lin 2004, section 3: F of the longest common subsequence, beta 1.2, best reference for each side."""

    def common(a: list[str], b: list[str]) -> int:
        table = np.zeros((len(a) + 1, len(b) + 1), int)
        for i, x in enumerate(a):
            for j, y in enumerate(b):
                table[i + 1, j + 1] = table[i, j] + 1 if x == y else max(table[i, j + 1], table[i + 1, j])
        return int(table[-1, -1])

    scores = []
    for one, some in zip(SAID, MEANT, strict=True):
        tokens = one.split()
        precision = max(common(tokens, other.split()) / len(tokens) for other in some)
        recall = max(common(tokens, other.split()) / len(other.split()) for other in some)
        scores.append((1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision))
    return float(np.mean(scores))


def plain_cider_d() -> float:
    """Vedantam et al. 2015, equations 1 to 4 and the D variant's clipping and length penalty (sigma 6)."""
    images = len(MEANT)
    documents: Counter[tuple[str, ...]] = Counter()
    for some in MEANT:
        documents.update({gram for one in some for n in range(1, 5) for gram in grams(one.split(), n)})

    def vector(tokens: list[str], n: int) -> dict[tuple[str, ...], float]:
        return {g: count * (math.log(images) - math.log(max(1, documents[g]))) for g, count in grams(tokens, n).items()}

    scores = []
    for one, some in zip(SAID, MEANT, strict=True):
        total = 0.0
        for n in range(1, 5):
            given = vector(one.split(), n)
            for other in some:
                wanted = vector(other.split(), n)
                dot = sum(min(given[g], wanted.get(g, 0.0)) * wanted.get(g, 0.0) for g in given)
                lengths = math.dist([0] * len(given), given.values()) * math.dist([0] * len(wanted), wanted.values())
                # The code counts length in bigrams.
                apart = sum(grams(one.split(), 2).values()) - sum(grams(other.split(), 2).values())
                total += (dot / lengths if lengths else 0.0) * math.exp(-(apart**2) / 72) / len(some) / 4
        scores.append(10 * total)
    return float(np.mean(scores))


def test_caption_scores_follow_their_formulas() -> None:
    scores = caption_scores(SAID, MEANT, meteor=False)
    for order in range(1, 5):
        assert scores.bleu[order - 1] == pytest.approx(plain_bleu(order), abs=1e-6)
    assert scores.rouge_l == pytest.approx(plain_rouge_l())
    assert scores.cider_d == pytest.approx(plain_cider_d())
    assert scores.meteor is None
    assert scores.s_m is None


def test_bleu_is_that_of_torchmetrics() -> None:
    from torchmetrics.functional.text import bleu_score

    assert caption_scores(SAID, MEANT, meteor=False).bleu[3] == pytest.approx(float(bleu_score(SAID, MEANT)), abs=1e-6)


def test_numbered_tokens_score_as_words_do_and_say_so() -> None:
    words, ids = caption_scores(SAID, MEANT, meteor=False), caption_scores(SAID, MEANT, mode="ids", meteor=False)
    assert ids.bleu == words.bleu
    assert ids.cider_d == pytest.approx(words.cider_d)
    assert (words.mode, ids.mode) == ("text", "ids")


def test_meteor_is_asked_of_its_own_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(fake_java(tmp_path)))
    scores = caption_scores(SAID, MEANT)
    assert scores.meteor == 0.25
    assert scores.s_m == pytest.approx((scores.bleu[3] + 0.25 + scores.rouge_l + scores.cider_d) / 4)


def test_without_java_there_is_no_meteor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert caption_scores(SAID, MEANT).meteor is None


def test_sentences_are_cut_as_the_treebank_does() -> None:
    assert ptb_like("The house's roof, 2.5 m wide, isn't THERE.") == [
        "the", "house", "'s", "roof", "2.5", "m", "wide", "is", "n't", "there",
    ]  # fmt: skip


def test_captions_that_cannot_be_scored_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="as many of each"):
        caption_scores(SAID, MEANT[:2])
    with pytest.raises(InvalidRequestError, match="1 have none"):
        caption_scores(SAID[:2], [MEANT[0], []])


def test_a_missing_package_is_named_with_its_remedy() -> None:
    with pytest.raises(DependencyError, match=r"nosuchpackage; install it with: pip install 'earthgen\[perception\]'"):
        require("nosuchpackage.inside", "perception")
