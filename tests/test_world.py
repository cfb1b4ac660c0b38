"""Worlds are values: equal fields mean one spelling and one id, and nothing else does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earthgen.errors import WorldError
from earthgen.pyramid import ground_sampling_distance
from earthgen.world import (
    MAX_EDITS,
    MAX_GSD,
    MAX_POLYGON_VERTICES,
    MAX_PROMPT_CHARACTERS,
    MAX_SEED,
    MIN_GSD,
    ROOTS,
    Edit,
    World,
)
from tests.strategies import edits, worlds

TRIANGLE = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))


@given(worlds(), worlds())
def test_ids_are_equal_exactly_when_values_are(a: World, b: World) -> None:
    assert (a.id == b.id) == (a == b)
    assert (a.canonical_json == b.canonical_json) == (a == b)


@given(worlds())
def test_an_equal_copy_has_the_same_id_and_hash(world: World) -> None:
    copy = World(world.root, world.seed, world.prompt, tuple(world.edits), world.negative, world.guidance, world.gsd)
    assert copy.id == world.id
    assert hash(copy) == hash(world)


@given(worlds())
def test_json_round_trip(world: World) -> None:
    again = World.from_dict(json.loads(world.canonical_json))
    assert again == world
    assert again.canonical_json == world.canonical_json


@given(edits())
def test_edit_round_trip(edit: Edit) -> None:
    assert Edit.from_dict(json.loads(json.dumps(edit.to_dict()))) == edit


@given(worlds())
def test_canonical_json_is_ascii_without_spaces_between_tokens(world: World) -> None:
    text = world.canonical_json
    assert text.isascii()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


# These spellings and ids name cache entries and URLs: they may change only with a new major version.
GOLDEN = [
    (World(), '{"edits":[],"prompt":"","root":"earth","seed":0}', "451766461642e40b4704"),
    (World("planet"), '{"edits":[],"prompt":"","root":"planet","seed":0}', "5507288e216f66225b33"),
    (
        World("earth", MAX_SEED, "é"),
        '{"edits":[],"prompt":"\\u00e9","root":"earth","seed":9223372036854775807}',
        "ddd14034f5e4c40c8ec1",
    ),
    (
        World(edits=(Edit(TRIANGLE, "a lake", "2026-05-01"),)),
        '{"edits":[{"polygon":[[0.0,0.0],[1.0,0.0],[0.0,1.0]],"prompt":"a lake","valid_from":"2026-05-01",'
        '"valid_until":null}],"prompt":"","root":"earth","seed":0}',
        "686a5528f0d8d35c2a8d",
    ),
    (
        World("prompt", 5, "a harbour", (Edit(TRIANGLE, action="reseed", seed=3),), "blurry", 4, 1),
        '{"edits":[{"action":"reseed","polygon":[[0.0,0.0],[1.0,0.0],[0.0,1.0]],"prompt":"","seed":3,"valid_from":null,'
        '"valid_until":null}],"gsd":1.0,"guidance":4.0,"negative":"blurry","prompt":"a harbour","root":"prompt",'
        '"seed":5}',
        "4a661e0ffc679da3c5d2",
    ),
]


@pytest.mark.parametrize(("world", "text", "name"), GOLDEN)
def test_spelling_and_id_do_not_drift(world: World, text: str, name: str) -> None:
    assert world.canonical_json == text
    assert world.id == name


def test_equal_numbers_of_other_types_are_the_same_world() -> None:
    whole = Edit(((0, 0), (1, 0), (0, 1)), "a lake")
    negative_zero = Edit(((-0.0, 0.0), (1.0, -0.0), (0.0, 1.0)), "a lake")
    lists: Any = [[0, 0], [1, 0], [0, 1]]
    expected = World(edits=(Edit(TRIANGLE, "a lake"),))
    for edit in (whole, negative_zero, Edit(lists, "a lake")):
        world = World(edits=(edit,))
        assert world == expected
        assert world.id == expected.id
        assert hash(world) == hash(expected)


def test_a_world_may_be_built_from_a_list_of_edits() -> None:
    edits_list: Any = [Edit(TRIANGLE, "a lake")]
    world = World(edits=edits_list)
    assert hash(world) == hash(World(edits=(Edit(TRIANGLE, "a lake"),)))


def test_absent_and_null_keys_take_their_defaults() -> None:
    assert World.from_dict({}) == World()
    assert World.from_dict({"prompt": None, "edits": None}) == World()


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({"root": "mars"}, "root is 'mars'; allowed: earth, planet, prompt"),
        ({"root": ["earth"]}, "root is"),
        ({"seed": -1}, "seed is -1; an integer from 0 to 9223372036854775807"),
        ({"seed": MAX_SEED + 1}, "seed is 9223372036854775808"),
        ({"seed": 1.0}, "seed is 1.0"),
        ({"seed": True}, "seed is True"),
        ({"seed": "7"}, "seed is '7'"),
        ({"prompt": 7}, "prompt is 7"),
        ({"prompt": False}, "prompt is False"),
        ({"prompt": "x" * (MAX_PROMPT_CHARACTERS + 1)}, "prompt has 513 characters; at most 512"),
        ({"edits": {}}, "edits must be a list"),
        ({"edits": 0}, "edits must be a list"),
        ({"edits": "abc"}, "edits must be a list"),
        ({"edits": [7]}, "edits must be a list"),
        ({"colour": "red"}, "unknown keys 'colour'; allowed: edits, gsd, guidance, negative, prompt, quality, root"),
        ({"negative": 7}, "negative is 7"),
        ({"negative": "x" * (MAX_PROMPT_CHARACTERS + 1)}, "negative has 513 characters; at most 512"),
        ({"guidance": 0.99}, "guidance is 0.99; a number from 1 to 20"),
        ({"guidance": 21}, "guidance is 21"),
        ({"guidance": float("nan")}, "guidance is nan"),
        ({"guidance": "4"}, "guidance is '4'"),
        ({"guidance": True}, "guidance is True"),
        ({"root": "prompt", "gsd": 1}, "needs a prompt"),
        ({"root": "prompt", "prompt": " \t\n", "gsd": 1}, "needs a prompt"),
        ({"root": "prompt", "prompt": "a harbour"}, "needs a gsd; 0.3 to 1200 metres"),
        ({"root": "prompt", "prompt": "a harbour", "gsd": 0.29}, "gsd is 0.29; a number from 0.3 to 1200"),
        ({"root": "prompt", "prompt": "a harbour", "gsd": 1201}, "gsd is 1201"),
        ({"root": "prompt", "prompt": "a harbour", "gsd": float("inf")}, "gsd is inf"),
        ({"root": "prompt", "prompt": "a harbour", "gsd": "1"}, "gsd is '1'"),
        ({"prompt": "a harbour", "gsd": 1}, "gsd is 1.0, but root 'earth'"),
        ({"prompt": "a\0b"}, r"prompt holds the control character U\+0000"),
        ({"prompt": "a\x1b[31m"}, r"prompt holds the control character U\+001B"),
        ({"negative": "a\x85"}, r"negative holds the control character U\+0085"),
        ({"prompt": "\ud83d"}, r"prompt holds the half of a surrogate pair U\+D83D"),
    ],
)
def test_a_bad_world_is_refused_with_its_value(value: dict[str, Any], complaint: str) -> None:
    with pytest.raises(WorldError, match=complaint):
        World.from_dict(value)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"polygon": [[0, 0], [1, 0]]}, "2 vertices"),
        ({"polygon": [[0, 0], [1, 0], [0, 0]]}, "three distinct"),
        ({"polygon": [[i / 100, 0] for i in range(MAX_POLYGON_VERTICES + 1)]}, "1025 vertices"),
        ({"polygon": [[0, 0], [1, 0], [0, 91]]}, "is not a longitude in -180..180 and a latitude in -90..90"),
        ({"polygon": [[0, 0], [181, 0], [0, 1]]}, "is not a longitude"),
        ({"polygon": [[0, 0], [float("nan"), 0], [0, 1]]}, "is not a longitude"),
        ({"polygon": [[0, 0], [10**400, 0], [0, 1]]}, "pairs"),
        ({"polygon": [[0, 0], ["1", 0], [0, 1]]}, "pairs"),
        ({"polygon": [[0, 0], [True, 0], [0, 1]]}, "pairs"),
        ({"polygon": [[0, 0, 0], [1, 0, 0], [0, 1, 0]]}, "pairs"),
        ({"polygon": "abc"}, "pairs"),
        ({"polygon": None}, "pairs"),
        ({"prompt": ""}, "edit prompt is empty"),
        ({"prompt": 7}, "edit prompt is 7"),
        ({"valid_from": "2026-13-01"}, "edit valid_from is '2026-13-01'; an ISO date such as 2026-05-01"),
        ({"valid_from": "20260501"}, "edit valid_from is '20260501'"),
        ({"valid_from": "2026-W01-1"}, "edit valid_from"),
        ({"valid_until": 2026}, "edit valid_until is 2026"),
        ({"valid_from": "2026-05-01", "valid_until": "2026-05-01"}, "is not before"),
        ({"shape": 1}, "unknown keys 'shape'; allowed: action, polygon, prompt, seed, valid_from, valid_until"),
        ({"prompt": "a\x07"}, r"edit prompt holds the control character U\+0007"),
        ({"action": "explode"}, "edit action is 'explode'; allowed: prompt, reseed, remove, snow"),
        ({"action": ["snow"]}, "edit action is"),
        ({"action": "snow"}, "edit action 'snow' takes no prompt"),
        ({"action": "reseed", "prompt": ""}, "'reseed' lacks a seed"),
        ({"action": "snow", "prompt": "", "seed": 3}, "edit action 'snow' takes no seed; allowed with: prompt, reseed"),
        ({"seed": -1}, "edit seed is -1; an integer from 0"),
        ({"seed": True}, "edit seed is True"),
    ],
)
def test_a_bad_edit_is_refused_with_its_value(changes: dict[str, Any], complaint: str) -> None:
    value = {"polygon": [[0, 0], [1, 0], [0, 1]], "prompt": "a lake", **changes}
    with pytest.raises(WorldError, match=complaint):
        Edit.from_dict(value)


@pytest.mark.parametrize("missing", ["polygon", "prompt"])
def test_an_edit_without_a_needed_key_is_refused(missing: str) -> None:
    value: dict[str, Any] = {"polygon": [[0, 0], [1, 0], [0, 1]], "prompt": "a lake"}
    del value[missing]
    with pytest.raises(WorldError, match=f"edit lacks '{missing}'"):
        Edit.from_dict(value)


def test_a_preset_needs_no_prompt() -> None:
    edit = Edit.from_dict({"polygon": [[0, 0], [1, 0], [0, 1]], "action": "snow"})
    assert edit == Edit(TRIANGLE, action="snow")


def test_text_is_one_composed_line() -> None:
    world = World(prompt="  cafe\u0301\r\n by\tthe   sea\u2028", negative="\u212b")
    assert (world.prompt, world.negative) == ("caf\u00e9 by the sea", "\u00c5")
    assert world == World(prompt="caf\u00e9 by the sea", negative="\u00c5")
    assert Edit(TRIANGLE, "a\n lake") == Edit(TRIANGLE, "a lake")


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "'; --", "a\u200d\u202eb", "海辺の町", "🏝️", "%00 &amp; {0}"]
)
def test_any_printable_text_is_kept_as_it_is(text: str) -> None:
    assert World(prompt=text).prompt == text
    assert World.from_dict(json.loads(World(prompt=text).canonical_json)).prompt == text


@pytest.mark.parametrize(
    ("gsd", "root_zoom"), [(0.3, 16), (0.5, 16), (1, 16), (1.19, 16), (1.2, 14), (2, 14), (10, 12), (100, 8), (1200, 6)]
)
def test_the_gsd_of_a_prompt_picks_the_zoom_of_the_root(gsd: float, root_zoom: int) -> None:
    world = World("prompt", 0, "a harbour", gsd=gsd)
    assert world.root_zoom == root_zoom
    assert world.min_zoom == root_zoom - 4
    # One cascade step below the root lies the level whose GSD is nearest.
    assert 0.5 <= gsd / ground_sampling_distance(root_zoom + 2, 0.0) <= 2.0


@given(st.floats(MIN_GSD, MAX_GSD))
def test_roots_of_prompts_lie_on_levels_6_to_16(gsd: float) -> None:
    assert World("prompt", 0, "a harbour", gsd=gsd).root_zoom in range(6, 17, 2)


def test_the_earth_and_planets_start_at_zoom_4_and_have_every_zoom() -> None:
    for root in ROOTS[:2]:
        assert (World(root).root_zoom, World(root).min_zoom) == (4, 0)


def test_a_world_at_a_date_has_the_edits_that_hold_then() -> None:
    always, started, ended, between = (
        Edit(TRIANGLE, "always"),
        Edit(TRIANGLE, "started", "2026-05-01"),
        Edit(TRIANGLE, "ended", None, "2026-05-01"),
        Edit(TRIANGLE, "between", "2026-05-01", "2026-06-01"),
    )
    world = World(edits=(always, started, ended, between))

    def prompts(day: str | None) -> list[str]:
        at = world.at(day)
        assert all(edit.valid_from is None and edit.valid_until is None for edit in at.edits)
        return [edit.prompt for edit in at.edits]

    assert prompts("2026-04-30") == ["always", "ended"]
    assert prompts("2026-05-01") == ["always", "started", "between"]
    assert prompts("2026-06-01") == ["always", "started"]
    assert prompts(None) == ["always", "started"]
    assert world.at("2026-07-01").id == world.at().id == world.at().at().id
    with pytest.raises(WorldError, match="date is '1 May'; an ISO date"):
        world.at("1 May")


def test_too_many_edits_are_refused() -> None:
    edit = Edit(TRIANGLE, "a lake")
    assert len(World(edits=(edit,) * MAX_EDITS).edits) == MAX_EDITS
    with pytest.raises(WorldError, match="257 edits; at most 256"):
        World(edits=(edit,) * (MAX_EDITS + 1))


@given(
    st.dictionaries(
        st.sampled_from(["root", "seed", "prompt", "edits", "negative", "guidance", "gsd"]),
        st.none() | st.integers() | st.text(),
    )
)
def test_any_json_is_a_world_or_a_world_error(value: dict[str, Any]) -> None:
    try:
        world = World.from_dict(value)
    except WorldError:
        return
    assert World.from_dict(json.loads(world.canonical_json)) == world
