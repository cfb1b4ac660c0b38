"""A network behind the call that users make: a pair in, a sentence out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from perception.caption_decoders import Sentence
from perception.checkpoint import State, read_network
from perception.detector import ChangeDetector
from perception.pair import Pair
from perception.vocabulary import Vocabulary

Config = TypeVar("Config")


@dataclass(frozen=True, slots=True)
class Caption:
    """What a model says of a pair.

    Attributes:
        text: the sentence, lower-case, without a full stop.
        log_probability: of the whole sentence, natural logarithm; None for models that do not tell it.
        ended: whether the model came to the sentence's end, or was cut off.
        model: name of the model.
    """

    text: str
    log_probability: float | None
    ended: bool
    model: str


@runtime_checkable
class ChangeCaptioner(Protocol):
    """What `perception.load` returns for change captioning."""

    @property
    def name(self) -> str:
        """The registry's name of the model."""

    def caption(self, pair: Pair, *, beams: int = 1) -> Caption:
        """Say in a sentence what changed.

        The whole pair is looked at at once, at the model's resolution.

        Args:
            pair: two images of any size.
            beams: sentences that the search follows at once.

        Raises:
            InvalidRequestError: a number of beams out of range.
        """


@runtime_checkable
class ChangeInterpreter(ChangeCaptioner, ChangeDetector, Protocol):
    """A model that finds what changed and says it."""


def as_caption(sentence: Sentence, vocabulary: Vocabulary, model: str) -> Caption:
    """What a search found, in words."""
    words = vocabulary.decode(sentence.numbers)
    return Caption(" ".join(words), sentence.log_probability, sentence.ended, model)


def read_weights(
    source: str | Path,
    vocabulary: str | Path | None,
    name: str,
    config_type: type[Config],
    from_public: Callable[[str | Path, tuple[str, ...]], tuple[Config, State]],
) -> tuple[Config, State]:
    """Read our own weights (a folder or a .safetensors file) or a public checkpoint (`*.pth`) of a captioner.

    Args:
        source: where they are.
        vocabulary: the `vocab.json` of a public checkpoint; None takes the one beside it.
        name: the registry's name of the model.
        config_type: the dataclass of its configuration.
        from_public: from a public checkpoint and its words to configuration and tensors under our names.

    Raises:
        WeightsError: nothing is there, or it is damaged, refused, or of another layout.
    """
    if Path(source).suffix not in (".pth", ".pt"):
        return read_network(source, name, config_type)
    words = Vocabulary.read(Path(source).with_name("vocab.json") if vocabulary is None else vocabulary).words
    return from_public(source, words)
