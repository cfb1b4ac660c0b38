"""Words and their numbers, as the caption models of the RSICCformer family count them.

The first four numbers are marks: 0 fills up, 1 stands for an unknown word, 2 begins and 3 ends a sentence. Sentences
are lower-case words between spaces; "?" and "." are dropped, "," and ";" are words.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from earthgen.errors import InvalidRequestError, WeightsError
from perception.errors import first_line

NULL, UNKNOWN, START, END = range(4)
MARKS = ("<NULL>", "<UNK>", "<START>", "<END>")
MOST_WORDS = 100_000
"""Most words of a vocabulary that is read from a file."""

_WORD = re.compile(r"[,;]|[^\s,;]+")


def words_of(sentence: str) -> tuple[str, ...]:
    """The words of a sentence, lower-case, without "?" and "."."""
    return tuple(_WORD.findall(re.sub(r"[?.]", " ", sentence.lower())))


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A list of words, each of which stands for its place.

    Args:
        words: the marks of this module first, then words, none twice.

    Raises:
        InvalidRequestError: the marks are missing or a word is there twice.
    """

    words: tuple[str, ...]
    _numbers: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.words[: len(MARKS)] != MARKS:
            raise InvalidRequestError(f"a vocabulary begins with {', '.join(MARKS)}; this begins with {self.words[:4]}")
        numbers = {word: number for number, word in enumerate(self.words)}
        if len(numbers) != len(self.words):
            twice = next(word for word, count in Counter(self.words).items() if count > 1)
            raise InvalidRequestError(f"the vocabulary holds {twice!r} twice")
        object.__setattr__(self, "_numbers", numbers)

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return word in self._numbers

    @classmethod
    def of_sentences(cls, sentences: Iterable[str], least: int = 1) -> Vocabulary:
        """The words that occur at least `least` times, in alphabetical order behind the marks."""
        counts = Counter(word for sentence in sentences for word in words_of(sentence))
        return cls((*MARKS, *sorted(word for word, count in counts.items() if count >= least)))

    @classmethod
    def read(cls, path: str | Path) -> Vocabulary:
        """Read a public `vocab.json`: an object of words and their numbers.

        Raises:
            WeightsError: nothing is there, or it is no such file.
        """
        path = Path(path)
        if not path.is_file():
            raise WeightsError(f"no vocabulary at {path}; the checkpoint's vocab.json is needed")
        try:
            numbers = json.loads(path.read_text(encoding="utf-8"))
            words = tuple(sorted(numbers, key=dict(numbers).__getitem__))
            if len(words) > MOST_WORDS or sorted(numbers.values()) != list(range(len(words))):
                raise ValueError(f"its numbers are not 0 to {len(words) - 1}")
            return cls(words)
        except (OSError, ValueError, TypeError, AttributeError, InvalidRequestError) as error:
            raise WeightsError(f"{path} is no vocabulary: {first_line(error)}") from error

    def encode(self, sentence: str, longest: int) -> list[int]:
        """A sentence as numbers with its marks, cut so that there are at most `longest` of them."""
        numbers = [self._numbers.get(word, UNKNOWN) for word in words_of(sentence)]
        return [START, *numbers[: longest - 2], END]

    def spoken(self, sentences: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        """Sentences as numbers with END alone, as `perception.caption_decoders.search` wants them."""
        return tuple(tuple(self.encode(text, MOST_WORDS)[1:]) for text in sentences)

    def decode(self, numbers: Sequence[int]) -> tuple[str, ...]:
        """The words up to the end mark; other marks are left out."""
        end = list(numbers).index(END) if END in numbers else len(numbers)
        return tuple(self.words[number] for number in numbers[:end] if number >= len(MARKS) or number == UNKNOWN)
