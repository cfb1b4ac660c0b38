"""The matrix of tasks: each has data, a metric and something that answers; and the agent reads the words of dumps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from benchmarks.agent import found
from benchmarks.tasks import TASKS_OF_THE_FIELD, Seen, items_of, matrix
from perception.captioner import Caption
from perception.detection import Detection
from perception.pair import Pair
from tests.fake_dump import PaintingMaker
from tests.fake_java import fake_java
from trainingsets.changes import CLASSES
from trainingsets.grounds import COVER_NAMES
from trainingsets.spec import DumpSpec
from trainingsets.tasks import TASKS, item_of


@dataclass
class Knowing:
    """Finds what the dump of semantic change says of the pair at hand."""

    name: str = "semantic-cd"
    classes: tuple[str, ...] = CLASSES
    masks: dict[str, Any] = field(default_factory=dict)

    def detect(self, pair: Pair, *, classes: Sequence[str] | None = None, **_: Any) -> Detection:
        codes = [self.masks["cover_before"], self.masks["cover_after"]]
        names = [*COVER_NAMES, "road"]
        assert tuple(names) == CLASSES
        semantics = np.stack([[code == 1 + names.index(name) for name in CLASSES] for code in codes])
        return found(pair, self.masks["change"] > 0, semantics.astype(np.float32), self.name)


class Echo:
    """Says the first of the true sentences of pairs in their order."""

    name = "echo"

    def __init__(self, items: list[Seen]) -> None:
        self.items = items

    def caption(self, pair: Pair, *, beams: int = 1) -> Caption:
        item = next(item for item in self.items if item.pair is pair)
        return Caption(item.told.captions[0], None, True, self.name)


@pytest.fixture(scope="module", autouse=True)
def quick_meteor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A stand-in for METEOR's program: the real one reads its tables for longer than all else here takes together."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(fake_java(tmp_path_factory.mktemp("java"))))
        yield


@pytest.fixture(scope="module")
def items() -> list[Seen]:
    """Items with painted pictures and a detector that knows."""
    maker = PaintingMaker()
    made = []
    for seen in items_of(maker, 8, Knowing(), ()):
        like = seen.item.spec
        spec = DumpSpec(
            task="semantic-change",
            format="parquet",
            count=like.count,
            seed=like.seed,
            tiles_per_scene=like.tiles_per_scene,
        )
        masks = TASKS["semantic-change"].make(maker, item_of(spec, seen.item.index)).masks
        assert np.array_equal(masks["change"], seen.told.masks["change"])
        made.append(Seen(seen.item, seen.told, seen.asked, seen.talk, Knowing(masks=masks), ()))
    echo = Echo(made)
    for item in made:
        object.__setattr__(item, "captioners", (echo,))
    return made


def scores(name: str, items: list[Seen]) -> tuple[str, dict[str, str]]:
    (task,) = [task for task in TASKS_OF_THE_FIELD if task.name == name]
    return task.score(items)


def number(text: str, name: str) -> float:
    return float(text.split(f"{name} ")[1].split(",")[0].split(" ")[0])


def test_every_task_has_data_that_a_dump_writes() -> None:
    assert len(TASKS_OF_THE_FIELD) == 6
    for task in TASKS_OF_THE_FIELD:
        assert task.dump in TASKS
        assert TASKS[task.dump].paired


def test_who_knows_the_pair_answers_what_the_dump_asks(items: list[Seen]) -> None:
    baseline, ours = scores("Change question answering", items)
    (told,) = ours.values()
    # The rest asks of a part of the picture that an area only reaches into, or of more than the grid can tell.
    assert number(told, "OA") > 95
    assert number(told, "OA") > number(baseline, "OA") + 10


def test_who_knows_the_pair_holds_whole_conversations(items: list[Seen]) -> None:
    baseline, ours = scores("Conversation over several turns", items)
    (told,) = ours.values()
    assert number(told, "turns") > 95
    assert number(told, "turns") > number(baseline, "turns") + 30


def test_who_knows_the_pair_finds_what_a_phrase_names(items: list[Seen]) -> None:
    baseline, ours = scores("Change grounding", items)
    (told,) = ours.values()
    assert number(told, "mIoU") > 85
    assert number(told, "mIoU") > number(baseline, "mIoU")


def test_a_perfect_mask_and_true_sentences_score_in_full(items: list[Seen]) -> None:
    baseline, ours = scores("Change detection with captions", items)
    assert ours["agent, semantic-cd"] == "F1 100.0, IoU 100.0"
    assert "F1 0.0" in baseline
    _, said = scores("Change captioning", items)
    assert number(said["echo"], "BLEU-4") == 100
    assert number(said["echo"], "METEOR") == 100
    _, sought = scores("Text to change retrieval", items)
    assert number(sought["echo's sentence"], "R@1") == 100


def test_the_matrix_has_a_line_for_each_task(items: list[Seen]) -> None:
    lines = matrix(items[:3])
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == [task.name for task in TASKS_OF_THE_FIELD]
