"""Scores of captions, computed by the COCO caption code (pycocoevalcap).

Corpus BLEU with the closest reference length, ROUGE-L with beta 1.2, CIDEr-D with document frequencies of the test
references, METEOR 1.5 if the machine has Java. How a sentence is cut into tokens changes every number:

- "ids": tokens as the caller has them, numbered, as the RSICCformer family scores. METEOR then sees numbers, so its
  stems and synonyms never match.
- "text": `ptb_like` cuts the sentence, nearly as the Penn Treebank tokeniser of COCO does.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from earthgen.errors import InvalidRequestError
from perception.optional import require

_WORDS = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:[-'][^\W\d_]+)*|'[a-z]+", re.UNICODE)
_CLITIC = re.compile(r"(n't|'(?:s|m|d|ll|re|ve))$")

Mode = Literal["ids", "text"]


@dataclass(frozen=True, slots=True)
class CaptionScores:
    """Scores of a corpus.

    Attributes:
        mode: how sentences were cut: "ids" or "text".
        bleu: BLEU-1 to BLEU-4, in [0, 1].
        rouge_l: in [0, 1].
        cider_d: 0 to 10; papers print it times 100.
        meteor: in [0, 1], or None if the machine has no Java.
    """

    mode: Mode
    bleu: tuple[float, float, float, float]
    rouge_l: float
    cider_d: float
    meteor: float | None

    @property
    def s_m(self) -> float | None:
        """S*m, the mean of BLEU-4, METEOR, ROUGE-L and CIDEr-D; None without METEOR."""
        return None if self.meteor is None else (self.bleu[3] + self.meteor + self.rouge_l + self.cider_d) / 4


def ptb_like(sentence: str) -> list[str]:
    """Cut into lower-case words without punctuation, clitics apart ("don't" is do and n't)."""
    tokens = []
    for word in _WORDS.findall(sentence.lower()):
        clitic = _CLITIC.search(word)
        if clitic and clitic.start() > 0:
            tokens += [word[: clitic.start()], clitic.group()]
        else:
            tokens.append(word)
    return tokens


def caption_scores(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    mode: Mode = "text",
    meteor: bool | Meteor = True,
) -> CaptionScores:
    """Score a corpus.

    Args:
        predictions: one sentence for each image.
        references: one or more sentences for each image.
        mode: "text", or "ids" where sentences are already tokens with spaces between.
        meteor: compute METEOR if Java is there; it starts a JVM, unless one that runs is given.

    Raises:
        InvalidRequestError: counts differ, or an image has no reference.
        DependencyError: pycocoevalcap is not installed.
    """
    if len(predictions) != len(references) or not predictions or not all(references):
        raise InvalidRequestError(
            f"{len(predictions)} captions and references of {len(references)} images, of which"
            f" {sum(not some for some in references)} have none; as many of each, at least one"
        )
    numbers: dict[str, int] = {}

    def cut(sentence: str) -> str:
        if mode == "text":
            return " ".join(ptb_like(sentence))
        return " ".join(str(numbers.setdefault(token, len(numbers) + 1)) for token in sentence.split())

    truth = {index: [cut(one) for one in some] for index, some in enumerate(references)}
    given = {index: [cut(one)] for index, one in enumerate(predictions)}
    bleu, _ = require("pycocoevalcap.bleu.bleu", "perception").Bleu(4).compute_score(truth, given, verbose=0)
    rouge_l, _ = require("pycocoevalcap.rouge.rouge", "perception").Rouge().compute_score(truth, given)
    cider_d, _ = require("pycocoevalcap.cider.cider", "perception").Cider().compute_score(truth, given)
    return CaptionScores(
        mode,
        (float(bleu[0]), float(bleu[1]), float(bleu[2]), float(bleu[3])),
        float(rouge_l),
        float(cider_d),
        meteor.score(truth, given) if isinstance(meteor, Meteor) else _meteor(truth, given) if meteor else None,
    )


class Meteor:
    """METEOR 1.5 by its own Java program, which takes seconds to start: one serves many corpora.

        with Meteor() as meteor:
            for predictions in several:
                caption_scores(predictions, references, meteor=meteor)

    Without Java every score is None.
    """

    def __init__(self) -> None:
        self._program: Any = None

    def __enter__(self) -> Meteor:
        if shutil.which("java") is not None:
            self._program = require("pycocoevalcap.meteor.meteor", "perception").Meteor()
        return self

    def __exit__(self, *_: object) -> None:
        if self._program is None:
            return
        # The scorer leaves its program running until it is collected.
        process = self._program.meteor_p
        with contextlib.suppress(OSError):
            for pipe in (process.stdin, process.stdout, process.stderr):
                pipe.close()
        process.kill()
        process.wait()

    def score(self, truth: dict[int, list[str]], given: dict[int, list[str]]) -> float | None:
        """Score a corpus of sentences that are cut into tokens."""
        if self._program is None:
            return None
        score, _ = self._program.compute_score(truth, given)
        return float(score)


def _meteor(truth: dict[int, list[str]], given: dict[int, list[str]]) -> float | None:
    with Meteor() as program:
        return program.score(truth, given)
