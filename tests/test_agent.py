"""The Change-Agent: scripted conversations, what it refuses, and that answers come from what a model found."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from rasterio.crs import CRS

from benchmarks.agent_dialogues import (
    CLASSES,
    DIALOGUES,
    PIXEL,
    SIDE,
    ColourDetector,
    Parrot,
    held,
    instructions,
    pairs,
)
from benchmarks.agent_phrasings import PHRASINGS, misread
from earthgen.errors import InvalidRequestError, WeightsError
from earthgen.pyramid import Box, box_mercator_bounds
from perception import agent as package
from perception.agent import Agent, Memory, Scene, Selection
from perception.agent.ground import PLACES, cell_of, inside, pixel_areas
from perception.agent.language import MAX_ANSWER_BYTES, EndpointPlanner, LocalPlanner, open_planner
from perception.agent.offline import OfflinePlanner
from perception.agent.planning import MAX_QUESTION_CHARACTERS, Abilities, read_question
from perception.agent.scene import LEAST_PIXELS, MOST_ADDED_CLASSES
from perception.agent.selection import format_area
from perception.agent.tools import TOOLS, checked_call
from perception.agent.words import ClassWords, place_in
from perception.detection import Detection
from perception.errors import AgentError, PlannerError, QuestionError
from perception.pair import Labels, Pair
from tileserver.detect import pixel_areas as rows_of

COLOURS = ColourDetector()


def scene(name: str = "town", **options: Any) -> Scene:
    return Scene(pairs()[name], COLOURS, **options)


def plan(question: str, abilities: Abilities | None = None, memory: Memory | None = None) -> list[Any]:
    made = OfflinePlanner().plan(read_question(question), abilities or Abilities(CLASSES), memory or Memory())
    return [step.as_json() if hasattr(step, "as_json") else step.code for step in made.steps]


# --- Conversations ---


@pytest.mark.parametrize("dialogue", DIALOGUES, ids=lambda dialogue: dialogue.topic)
def test_scripted_conversations_get_the_answers_worked_out_by_hand(dialogue: Any) -> None:
    assert [outcome for outcome in held(dialogue) if outcome.wrong] == []


def test_the_script_has_enough_instructions_of_every_kind() -> None:
    assert instructions() >= 60
    assert len({turn.question.lower() for dialogue in DIALOGUES for turn in dialogue.turns}) >= 60


def test_things_may_be_said_in_many_ways() -> None:
    assert [wrong for phrasing in PHRASINGS if (wrong := misread(*phrasing))] == []


class Blind:
    """Sees nothing."""

    name = "blind"
    classes = CLASSES

    def detect(self, pair: Pair, **_: Any) -> Detection:
        nothing = np.zeros(pair.shape, dtype=np.bool_)
        logits = np.stack([np.ones(pair.shape), np.zeros(pair.shape)]).astype(np.float32)
        semantics = np.zeros((2, len(CLASSES), *pair.shape), dtype=np.float32)
        return Detection(nothing, logits, CLASSES, pair.transform, pair.crs, semantics, self.name)


def test_answers_are_what_the_model_found_and_not_what_is_known_of_the_pair() -> None:
    pair = pairs()["town"]
    truth = ColourDetector().detect(pair)
    labels = truth.labels
    assert labels is not None
    known = Pair(
        pair.before, pair.after, pair.transform, pair.crs, labels=Labels(truth.mask, labels[0], labels[1], CLASSES)
    )
    answer = Agent(Scene(known, Blind())).ask("how many new buildings are there?")
    assert answer.steps[0].value["count"] == 0
    assert answer.model == "blind"
    # No part of the agent reads labels.
    for path in Path(package.__file__).parent.glob("*.py"):
        names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        assert not names & {"labels", "edits"}, path


def test_nothing_in_the_agent_runs_code_that_it_is_given() -> None:
    for path in Path(package.__file__).parent.glob("*.py"):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        names = {getattr(call, "id", getattr(call, "attr", "")) for call in calls}
        # `compile` is that of regular expressions; `eval` puts a network into evaluation mode.
        plain = {call.id for call in calls if isinstance(call, ast.Name)}
        assert not plain & {"eval", "exec", "compile", "__import__", "open", "getattr_static"}, path
        assert not names & {"exec", "system", "popen", "Popen", "check_output", "run_path", "loads_pickle"}, path


def test_each_answer_is_the_same_when_it_is_asked_again() -> None:
    first, second = (Agent(scene()).ask("what changed here, and where?").as_json() for _ in range(2))
    assert first == second
    json.dumps(first)


def test_steps_are_told_as_they_begin_and_end() -> None:
    events = list(Agent(scene()).steps("count the new buildings and export them as geojson"))
    assert [event.kind for event in events] == ["plan", "step", "done", "step", "done", "answer"]
    assert events[1].data["tool"] == "count"
    assert events[2].data["value"]["count"] == 3
    answer = events[-1].answer
    assert answer is not None
    assert answer.areas is not None and len(answer.areas["features"]) == 3
    assert {area["properties"]["after"] for area in answer.areas["features"]} == {"building"}


def test_the_detector_looks_once_however_much_is_asked() -> None:
    looked = 0

    class Counting(ColourDetector):
        def detect(self, pair: Pair, **options: Any) -> Detection:
            nonlocal looked
            looked += 1
            return super().detect(pair, **options)

    agent = Agent(Scene(pairs()["town"], Counting()))
    memory = Memory()
    for question in ("what changed?", "where?", "and the roads?", "export them"):
        memory = agent.ask(question, memory).memory
    assert looked == 1


def test_two_files_of_one_answer_have_two_names() -> None:
    answer = Agent(scene()).ask("export new buildings as geojson and export new buildings in the centre as geojson")
    again = Agent(scene()).ask("save all changes as geojson and save all changes as geojson")
    assert len({file.name for file in answer.files}) == len(answer.files) == 2
    assert [file.name for file in again.files] == ["changed.geojson", "changed-2.geojson"]


# --- What is asked for ---


@pytest.mark.parametrize(
    ("question", "tool", "selection"),
    [
        ("count the new houses", "count", {"subject": "building", "kind": "came"}),
        ("number of demolished houses", "count", {"subject": "building", "kind": "went"}),
        ("deforestation in the north east", "detect", {"subject": "tree", "kind": "went", "place": "top right"}),
        ("show me lakes that disappeared", "detect", {"subject": "water", "kind": "went"}),
        ("forest to water, in hectares", "area", {"subject": "water", "kind": "came", "other": "tree"}),
        ("buildings that replaced trees: count", "count", {"subject": "building", "kind": "came", "other": "tree"}),
        ("where were meadows turned into streets?", "place", {"subject": "road", "kind": "came",
                                                               "other": "low vegetation"}),
        ("what happened to the woods?", "areas_by_class", {"subject": "tree", "kind": "went"}),
        ("the three largest changes", "detect", {"rank": "largest", "first": 3}),
        ("top 5 changes", "detect", {"rank": "largest", "first": 5}),
        ("changes over half a hectare", "detect", {"least_m2": 5000.0}),
        ("count changes between 100 m2 and less than 2 ha", "count", {"most_m2": 20000.0}),
        ("how many changes of at least 2,500 square meters are in the southern half?", "count",
         {"least_m2": 2500.0, "place": "lower half"}),
        ("mark every change in the centre right", "detect", {"place": "center right"}),
        ("what was felled?", "detect", {"subject": "tree", "kind": "went"}),
        ("how much grassland is there now?", "area", {"when": "after", "subject": "low vegetation"}),
    ],
)  # fmt: skip
def test_words_become_a_tool_and_a_selection(question: str, tool: str, selection: dict[str, Any]) -> None:
    (step, *_) = plan(question)
    assert step["tool"] == tool
    assert step["arguments"].get("selection", {}) == selection


def test_words_mean_the_classes_of_the_detector_whatever_their_names() -> None:
    words = ClassWords(("forest", "houses", "solar farm"))
    found = words.mentions("trees and buildings beside solar farms and a river")
    assert [(mention.name, mention.known) for mention in found] == [
        ("forest", True), ("houses", True), ("solar farm", True), ("water", False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("in the top left corner", "top left"), ("in the upper-right part", "top right"), ("north-west", "top left"),
        ("in the south", "bottom"), ("in the middle", "center"), ("at the top center", "top center"),
        ("in the middle of the left", "center left"), ("the eastern half", "right half"), ("on the left", "left"),
        ("upper half", "upper half"), ("the southeast corner", "bottom right"),
    ],
)  # fmt: skip
def test_places_are_read_in_many_words(text: str, place: str) -> None:
    found = place_in(text)
    assert found is not None
    assert found[0] == place


def test_a_class_in_quotes_is_looked_for_by_a_detector_that_takes_any() -> None:
    taking = scene(any_classes=True)
    answer = Agent(taking).ask('count the new "solar panels"')
    assert answer.steps[0].value["count"] == 0
    assert taking.classes == (*CLASSES, "solar panels")
    refused = Agent(scene()).ask('count the new "solar panels"')
    assert refused.refused
    assert "does not look for 'solar panels'" in refused.text
    for number in range(MOST_ADDED_CLASSES - 1):
        taking.add_class(f"class {number}")
    with pytest.raises(AgentError, match="8 classes were added already"):
        taking.add_class("one more")


def test_words_that_play_no_part_are_named() -> None:
    answer = Agent(scene()).ask("count the new buildings with chimneys")
    assert answer.steps[0].value["count"] == 3
    assert "Not taken into account: chimneys." in answer.notes


class Binary:
    """Sees that something changed, not what."""

    name = "binary"
    classes: tuple[str, ...] = ()

    def detect(self, pair: Pair, **_: Any) -> Detection:
        found = COLOURS.detect(pair)
        return Detection(found.mask, found.logits, (), pair.transform, pair.crs, model=self.name)


class Objects(Binary):
    """Says which object changed, not in which direction."""

    name = "objects"

    def objects(self, pair: Pair, **_: Any) -> Any:
        labels = COLOURS.detect(pair).labels
        assert labels is not None
        kinds = np.zeros(pair.shape, dtype=np.uint8)
        for code, name in enumerate(("road", "building"), start=1):
            kinds[(labels == 1 + CLASSES.index(name)).any(axis=0)] = code

        class Map:
            names = ("road", "building")

        Map.kinds = kinds  # type: ignore[attr-defined]
        return Map


def test_a_detector_that_names_nothing_answers_what_it_can_and_says_what_it_cannot() -> None:
    agent = Agent(Scene(pairs()["town"], Binary()))
    assert agent.ask("how many areas changed?").steps[0].value["count"] == 6
    answer = agent.ask("count the new buildings")
    assert answer.refused
    assert "finds that something changed, not what" in answer.text
    assert "does not say what is there" in agent.ask("what is the land cover now?").text
    assert "changed" in agent.ask("what changed?").text
    assert not agent.ask("why?").refused


def test_a_detector_of_objects_counts_them_and_does_not_say_in_which_direction() -> None:
    agent = Agent(Scene(pairs()["town"], Objects()))
    assert agent.ask("count the changed buildings").steps[0].value["count"] == 4
    answer = agent.ask("count the new buildings")
    assert answer.refused
    assert "not whether it came or went" in answer.text
    assert {row["class"] for row in agent.ask("what changed?").steps[0].value["classes"]} == {"road", "building"}


def test_a_second_detector_is_compared_and_without_one_that_is_said() -> None:
    both = Agent(scene(second=Binary())).ask("do the models agree?")
    assert both.steps[0].value["iou"] == 1.0
    alone = Agent(scene()).ask("are you sure?")
    assert "no second opinion" in alone.text
    assert "probability of 95.3 %" in alone.text
    heard = Agent(scene(captioners=[Parrot("nothing has changed")])).ask("are you sure?")
    assert "parrot says that nothing changed; the mask has 6 areas" in heard.text


def test_speckle_is_left_out_and_told() -> None:
    pair = pairs()["still"]
    after = pair.after.copy()
    after[:1, : LEAST_PIXELS - 1] = pairs()["town"].after[100, 100]
    answer = Agent(Scene(Pair(pair.before, after, pair.transform, pair.crs), COLOURS)).ask("how many areas changed?")
    assert answer.steps[0].value["count"] == 0
    assert answer.notes == ("5 pixels in areas of fewer than 6 pixels left out.",)


def test_what_has_no_data_is_of_no_class() -> None:
    pair = pairs()["town"]
    valid = np.ones(pair.shape, dtype=np.bool_)
    valid[:, :120] = False
    half = Pair(pair.before, pair.after, pair.transform, pair.crs, valid=valid)
    table = Agent(Scene(half, COLOURS)).ask("land cover now?").steps[0].value["classes"]
    assert sum(row["pixels"] for row in table) == valid.sum()


# --- Ground ---


def test_pixels_have_the_area_that_the_service_gives_them() -> None:
    box = Box(16, 22000, 35000, 200, 160)
    left, _, _, top = box_mercator_bounds(box)
    size = 156543.03392804097 / 2**16
    areas = pixel_areas((200, 160), Affine(size, 0, left, 0, -size, top), CRS.from_epsg(3857))
    assert areas is not None
    assert areas.sum() == pytest.approx(rows_of(box).sum() * 160, rel=1e-5)
    assert areas[0, 0] == pytest.approx(rows_of(box)[0], rel=1e-3)
    assert pixel_areas((2, 3), Affine.identity(), None) is None
    metres = pixel_areas((2, 3), Affine.identity(), None, 0.5)
    assert metres is not None and metres.sum() == 1.5


def test_every_pixel_lies_in_one_cell() -> None:
    shape = (31, 50)
    cells = np.stack([inside(place, shape) for place in PLACES[:9]])
    assert (cells.sum(axis=0) == 1).all()
    for row, column in ((0, 0), (15, 25), (30, 49), (10, 49)):
        assert cells[PLACES.index(cell_of(row, column, shape)), row, column]
    assert (inside("upper half", shape) ^ inside("lower half", shape)).all()
    assert inside("top", shape).sum() == cells[:3].sum()


def test_places_cut_and_degrees_are_of_the_ground() -> None:
    answer = Agent(scene()).ask("coordinates of the new building in the centre")
    (place,) = answer.steps[0].value["places"]
    from pyproj import Transformer

    x, y = 680_000 + PIXEL * 110, 5_236_000 - PIXEL * 109
    longitude, latitude = Transformer.from_crs(32632, 4326, always_xy=True).transform(x, y)
    assert (place["longitude"], place["latitude"]) == pytest.approx((longitude, latitude), abs=2e-6)
    assert place["cell"] == "center"


@pytest.mark.parametrize(
    ("metres", "unit", "text"),
    [(0, "auto", "0 m²"), (0.25, "auto", "0.25 m²"), (850.4, "auto", "850 m²"), (12345, "auto", "1.23 ha"),
     (3.4e7, "auto", "34 km²"), (1.23456e9, "km2", "1,235 km²"), (50, "ha", "0.005 ha")],
)  # fmt: skip
def test_sizes_are_told_in_digits_that_mean_something(metres: float, unit: Any, text: str) -> None:
    assert format_area(metres, unit) == text


# --- Bad input ---


@pytest.mark.parametrize("question", ["", "   ", "\n\t", "\x00\x07"])
def test_an_empty_question_is_refused(question: str) -> None:
    with pytest.raises(QuestionError, match="the question is empty; ask for instance: what changed here"):
        Agent(scene()).ask(question)


@pytest.mark.parametrize("length", [MAX_QUESTION_CHARACTERS + 1, 10_000_000])
def test_an_enormous_question_is_refused_at_once(length: int) -> None:
    with pytest.raises(QuestionError, match=f"the question has {length} characters; at most 500 are allowed"):
        Agent(scene()).ask("a" * length)


@given(st.text(max_size=MAX_QUESTION_CHARACTERS))
def test_any_text_gets_a_plan_or_one_sentence(text: str) -> None:
    try:
        line = read_question(text)
    except QuestionError as error:
        assert "\n" not in str(error)
        return
    made = OfflinePlanner().plan(line, Abilities(CLASSES, True, True, True), Memory())
    assert made.steps


_WORDS = (
    "count show where why how many much the new lost forest buildings and roads that became in of top left larger than"
    " 2 ha largest export as geojson mask them those percent water ; ? before now \" 'x' not most 10 the what changed"
    " increase compare is there"
)


@given(st.lists(st.sampled_from(_WORDS.split()), min_size=1, max_size=14))
def test_any_order_of_known_words_is_answered_or_refused_in_a_sentence(words: list[str]) -> None:
    answer = Agent(scene(captioners=[Parrot("a road is built")], second=Binary())).ask(" ".join(words))
    assert answer.text.strip()
    Memory.model_validate_json(answer.memory.model_dump_json())


def test_a_number_without_end_and_an_empty_quotation_break_nothing() -> None:
    answer = Agent(scene()).ask(f"count changes larger than {'9' * 400} ha")
    assert answer.steps[0].value["count"] == 0
    assert Agent(scene(any_classes=True)).ask('count the new " "').text


@pytest.mark.parametrize(
    "memory",
    [{"tool": "shell", "arguments": {}}, {"tool": "count", "arguments": {"selection": {"subject": 7}}},
     {"tool": "count", "arguments": {"command": "ls"}}],
)  # fmt: skip
def test_a_memory_that_was_made_up_is_refused(memory: dict[str, Any]) -> None:
    with pytest.raises(QuestionError, match="this memory is none of ours"):
        Agent(scene()).ask("and the roads?", Memory(**memory))


@pytest.mark.parametrize(
    "fields",
    [{"kind": "came"}, {"subject": "tree", "other": "water"}, {"subject": "tree", "kind": "came", "when": "after"},
     {"place": "somewhere"}, {"least_m2": -1}, {"least_m2": float("nan")}, {"first": 0}, {"path": "/etc/passwd"}],
)  # fmt: skip
def test_selections_that_make_no_sense_cannot_be_made(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Selection(**fields)


def test_tools_are_a_closed_list_with_schemas_that_allow_nothing_else() -> None:
    assert set(TOOLS) == {
        "detect", "segment", "caption", "count", "area", "areas_by_class", "compare", "cause", "place", "export",
    }  # fmt: skip
    for tool in TOOLS.values():
        assert tool.schema()["additionalProperties"] is False


# --- Language models ---


def answering(*answers: Any) -> tuple[EndpointPlanner, list[Any]]:
    """A planner whose endpoint gives these answers in turn; and what it was asked."""
    asked: list[Any] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content) | {"headers": dict(request.headers)})
        answer = answers[min(len(asked), len(answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)

    return EndpointPlanner("http://model.test/v1/", "small", "secret", transport=httpx.MockTransport(handle)), asked


def tool_call(name: str, arguments: Any) -> dict[str, Any]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    call = {"id": "1", "type": "function", "function": {"name": name, "arguments": text}}
    return {"choices": [{"message": {"role": "assistant", "content": None, "tool_calls": [call]}}]}


COUNT = {"selection": {"subject": "building", "kind": "came"}}


def test_a_language_model_chooses_tools_and_the_tools_answer() -> None:
    planner, asked = answering(tool_call("count", COUNT))
    answer = Agent(scene(), planner).ask("Wie viele neue Häuser gibt es?")
    assert answer.steps[0].value["count"] == 3
    assert answer.planner == "small"
    (request,) = asked
    assert request["headers"]["authorization"] == "Bearer secret"
    assert {tool["function"]["name"] for tool in request["tools"]} == set(TOOLS)
    assert request["messages"][-1] == {"role": "user", "content": "Wie viele neue Häuser gibt es?"}


def test_calls_may_be_written_as_text() -> None:
    content = f'Sure! {{"calls": [{{"tool": "count", "arguments": {json.dumps(COUNT)}}}]}} Hope this helps.'
    planner, _ = answering({"choices": [{"message": {"content": content}}]})
    assert Agent(scene(), planner).ask("houses?").steps[0].value["count"] == 3


def test_a_wrong_call_is_told_once_and_then_made_right() -> None:
    planner, asked = answering(tool_call("count", {"what": "houses"}), tool_call("count", COUNT))
    assert Agent(scene(), planner).ask("how many houses?").steps[0].value["count"] == 3
    assert len(asked) == 2
    assert "could not be used: tool count does not take these arguments: what" in asked[1]["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (tool_call("shell", {"command": "rm -rf /"}), "there is no tool 'shell'"),
        (tool_call("python", "import os"), "there is no tool 'python'"),
        (tool_call("export", {"path": "/etc/passwd"}), "does not take these arguments: path"),
        (tool_call("count", "{not json"), "are no JSON"),
        (tool_call("count", "[" * 100_000), "are no JSON"),
        ({"choices": [{"message": {"content": "There are 100 new buildings."}}]}, "asks for no tool"),
        ({"choices": [{"message": {"content": None, "tool_calls": [{"function": "x"}]}}]}, "something that is no tool"),
        ({"choices": [{"message": {"tool_calls": [{"name": "count", "arguments": COUNT}] * 9}}]},
         "asks for 9 tools; at most 6"),
        ({"choices": []}, "does not answer as a language model does"),
        ({"choices": [{"message": "hello"}]}, "does not answer as a language model does"),
        (httpx.Response(200, content=b"<html>"), "does not answer as a language model does"),
        (httpx.Response(200, content=b"x" * (MAX_ANSWER_BYTES + 1)), "answers with more than"),
        (httpx.Response(500), "answers with status 500"),
        (httpx.Response(302, headers={"location": "http://169.254.169.254/"}), "answers with status 302"),
        (httpx.ReadTimeout("slow"), "model.test does not answer within 30 s"),
        (httpx.ConnectError("refused"), "model.test cannot be reached: refused"),
    ],
)  # fmt: skip
def test_a_model_that_is_dead_or_talks_nonsense_gives_way_to_the_rules(answer: Any, why: str) -> None:
    planner, _ = answering(answer)
    found = Agent(scene(), planner).ask("count the new buildings")
    assert found.steps[0].value["count"] == 3
    assert found.planner == "offline"
    assert any("The language model was of no use" in note and why in note for note in found.notes), found.notes


def test_what_a_model_says_about_numbers_is_never_part_of_the_answer() -> None:
    said = tool_call("count", COUNT)
    said["choices"][0]["message"]["content"] = "There are 100 new buildings."
    planner, _ = answering(said)
    assert "100" not in Agent(scene(), planner).ask("how many houses were built?").text


def test_nobody_listens_at_a_dead_address() -> None:
    planner = open_planner("http://127.0.0.1:9/v1", "any", timeout=2.0)
    answer = Agent(scene(), planner).ask("count the new buildings")
    assert answer.steps[0].value["count"] == 3
    assert "127.0.0.1 cannot be reached" in answer.notes[0]


@pytest.mark.parametrize("url", ["ftp://x/v1", "http://", "file:///etc/passwd", "http://[::1"])
def test_addresses_that_are_none_are_refused(url: str) -> None:
    with pytest.raises(InvalidRequestError, match="is no address"):
        open_planner(url, "m")


def test_an_address_needs_the_models_name_and_a_path_needs_a_model(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="say which model of"):
        open_planner("http://127.0.0.1:1/v1")
    with pytest.raises(WeightsError):
        open_planner(str(tmp_path / "nothing"))


def test_a_local_model_that_talks_nonsense_gives_way_to_the_rules(tmp_path: Path) -> None:
    from tests.test_perception_semantic_cc import language, tokenizer

    language().save_pretrained(tmp_path / "language")
    tokenizer().save_pretrained(tmp_path / "language")
    planner = LocalPlanner(tmp_path / "language")
    with pytest.raises(PlannerError, match="asks for no tool"):
        planner.plan("count the new buildings", Abilities(CLASSES), Memory())
    answer = Agent(scene(), planner).ask("count the new buildings")
    assert answer.steps[0].value["count"] == 3
    assert "The language model was of no use" in answer.notes[0]


def test_unknown_tools_are_named_briefly() -> None:
    with pytest.raises(PlannerError) as caught:
        checked_call("x" * 10_000, {})
    assert len(str(caught.value)) < 250
    assert pairs()["town"].shape[0] == SIDE
