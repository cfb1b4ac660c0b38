"""The fuzzer of the service: its inputs come from a seed, and a few of them are tried here."""

from __future__ import annotations

import asyncio
import json

import pytest

from benchmarks import fuzz
from tests.fake_engine import FakeEngine
from tileserver import Settings, create_app


def test_inputs_come_from_the_seed_and_are_of_every_kind() -> None:
    app = create_app(Settings(), lambda _: FakeEngine())
    first, again, other = (fuzz.Inputs(app, seed) for seed in (1, 1, 2))
    asked = [first.next() for _ in range(300)]
    assert asked == [again.next() for _ in range(300)]
    assert asked != [other.next() for _ in range(300)]
    assert {entry.kind for entry in asked} == {"world", "geojson", "export", "query"}
    # Some make sense and some are not even JSON.
    bodies = [entry.body for entry in asked if entry.body is not None]
    assert any(b'"edits"' in body for body in bodies)
    with pytest.raises(ValueError):
        for body in bodies:
            json.loads(body)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_a_few_hundred_odd_requests_are_answered_or_refused_and_none_fails() -> None:
    seen = asyncio.run(fuzz.press(250, seed=7))
    assert seen.failures == []
    statuses = {status for counts in seen.statuses.values() for status in counts}
    assert {200, 201, 422} <= statuses and max(statuses) < 500
    assert sum(sum(counts.values()) for counts in seen.statuses.values()) == 250


def test_a_route_that_fails_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: fuzz.Inputs) -> fuzz.Asked:
        return fuzz.Asked("GET", "/worlds/planet")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(fuzz.Inputs, "next", broken)
    monkeypatch.setattr("tileserver.worlds.describe", fail)
    seen = asyncio.run(fuzz.press(2, seed=0))
    assert seen.failed == 2
    assert "500 GET /worlds/planet" in seen.failures[0]
