"""The route that answers questions about what changed, as a stream: what is being done, and last the answer.

A line of JSON for each event. Nothing of a conversation is kept here: its memory goes out with an answer and comes back
with the next question. What was seen of the last few pairs is kept, so that a second question is quick.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Iterator
from datetime import date as Date
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Path, Query
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import StreamingResponse

from earthgen.errors import EarthgenError, InvalidRequestError, RequestCancelledError
from earthgen.world import World
from tileserver.admission import Cancelled
from tileserver.dependencies import named_world, service_of
from tileserver.detect import Comparison, ComparisonRequest, comparison_of, reporting
from tileserver.service import Service

if TYPE_CHECKING:
    from perception.agent.planning import Memory, Planner
    from perception.agent.scene import Scene

MEDIA_TYPE = "application/x-ndjson"
MAX_QUESTION_CHARACTERS = 10_000
"""Of what is read at all; the agent itself takes fewer and says so."""

router = APIRouter(tags=["perception"])
_logger = logging.getLogger(__name__)


class AgentRequest(ComparisonRequest):
    """A question, and the two pictures that it is about."""

    question: Annotated[str, Field(max_length=MAX_QUESTION_CHARACTERS)] = Field(description="In plain words.")
    memory: dict[str, Any] | None = Field(
        default=None, description="`memory` of the answer before, of the same pictures; absent at the beginning."
    )
    model: Annotated[str, Field(max_length=64)] | None = Field(
        default=None, description="Detector that answers, see /perception/models; else the first that names classes."
    )
    planner: Literal["offline", "language"] | None = Field(
        default=None, description="Rules, or the language model of this server, which is the default where it has one."
    )


async def agent_slot(request: Request) -> AsyncIterator[Cancelled]:
    """Hold a place among the detections until the answer has been sent; says whether the client is gone."""
    async with service_of(request).detections.hold(request) as cancelled:
        yield cancelled


@router.post(
    "/agent",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {MEDIA_TYPE: {"example": '{"event": "answer", "text": "3 areas that became building."}\n'}},
            "description": "Lines of JSON: `pictures`, `plan`, a `step` and a `done` for each tool, `answer`.",
        },
        503: {"description": "Too many detections and questions wait already; Retry-After says when to come back."},
    },
)
async def ask(
    request: Request,
    before: Annotated[World, Depends(named_world)],
    world: Annotated[str, Path(description="earth, planet, prompt, or the id of a registered world")],
    cancelled: Annotated[Cancelled, Depends(agent_slot)],
    asked: Annotated[
        AgentRequest,
        Body(
            openapi_examples={
                "days": {
                    "value": {
                        "question": "how many hectares of forest were lost?",
                        "bbox": [11.4, 47.26, 11.41, 47.27],
                        "zoom": 16,
                        "before_date": "2026-04-30",
                        "after_date": "2026-05-01",
                    }
                }
            }
        ),
    ],
    date: Annotated[str | None, Query(description="Not here: see before_date and after_date.")] = None,
) -> StreamingResponse:
    """Answer a question about what changed in an area, from what a change detector finds there."""
    service = service_of(request)
    job = await comparison_of(request, world, before, asked, date)
    # Whatever is wrong with the question is found out while there is a status to say it.
    events = await run_in_threadpool(partial(_begin, service, job, asked, cancelled))
    headers = {"X-Earthgen": f"{service.provenance(job.before)}; after={job.after.id}", "Cache-Control": "no-store"}
    return StreamingResponse(_lines(events), media_type=MEDIA_TYPE, headers=headers)


def _begin(service: Service, job: Comparison, asked: AgentRequest, cancelled: Cancelled) -> Iterator[dict[str, Any]]:
    """Check the question, the memory, the model and the planner; then give the events one by one.

    Raises:
        InvalidRequestError: one of them cannot be used.
        UnknownModelError: no such model.
        WeightsError: the model's weights are damaged.
    """
    from pydantic import ValidationError

    from perception.agent.planning import Memory, read_question

    question = read_question(asked.question)
    try:
        memory = Memory() if asked.memory is None else Memory.model_validate(asked.memory)
    except ValidationError as error:
        raise InvalidRequestError("memory is none of an answer; send it as it came, or leave it out") from error
    _ = memory.call
    name = service.watcher.chosen(asked.model)
    service.watcher.naming(name)
    return _events(service, job, asked, question, memory, name, _planner(service, asked), cancelled)


def _events(
    service: Service,
    job: Comparison,
    asked: AgentRequest,
    question: str,
    memory: Memory,
    model: str,
    planner: Planner | None,
    cancelled: Cancelled,
) -> Iterator[dict[str, Any]]:
    from perception.agent.answering import Agent

    yield {"event": "pictures"} | job.facts(asked)
    watcher = service.watcher
    weights = watcher.naming(model).id
    key = repr((job.before.id, job.after.id, job.box, asked.before_date, asked.after_date, weights, service.version))
    kept = watcher.scene(key, partial(_scene, service, job, asked, model, cancelled))
    steps = Agent(kept.scene, planner).steps(question, memory)
    while True:
        # Each step by itself: two people may ask about one pair.
        with kept.lock:
            kept.scene.progress = reporting(cancelled)
            event = next(steps, None)
        if event is None:
            return
        if event.answer is None:
            yield {"event": event.kind} | event.data
            continue
        answer = event.answer.as_json() | job.facts(asked)
        yield {"event": "answer"} | answer | {"model": {"name": model, "weights": weights}}


def _scene(service: Service, job: Comparison, asked: AgentRequest, model: str, cancelled: Cancelled) -> Scene:
    """The pair with everybody who can look at it."""
    from dataclasses import replace

    from perception.agent.scene import Scene

    watcher = service.watcher
    days = [None if day is None else Date.fromisoformat(day) for day in (asked.before_date, asked.after_date)]
    pair = replace(job.pair(service, cancelled), before_date=days[0], after_date=days[1])
    detector = watcher.naming(model).detector
    return Scene(
        pair,
        detector,
        watcher.captioners(),
        watcher.second(model),
        any_classes=bool(detector.classes),
    )


def _planner(service: Service, asked: AgentRequest) -> Planner | None:
    """The language model, if there is one and it is wanted."""
    if asked.planner == "offline":
        return None
    planner = service.language_planner()
    if planner is None and asked.planner == "language":
        raise InvalidRequestError("planner is 'language', and this server has no language model; allowed: 'offline'")
    return planner


async def _lines(events: Iterator[dict[str, Any]]) -> AsyncIterator[str]:
    """The events as lines; a failure on the way is the last line, since the status has been sent."""
    try:
        while (event := await run_in_threadpool(next, events, None)) is not None:
            yield json.dumps(event) + "\n"
    except RequestCancelledError:
        pass
    except EarthgenError as error:
        # Such as a world that these weights cannot show: said as the other routes say it.
        yield json.dumps({"detail": str(error)}) + "\n"
    except Exception as error:
        _logger.error("a question failed", exc_info=error)
        detail = f"the question failed ({type(error).__name__}); the server's log has more"
        yield json.dumps({"detail": detail}) + "\n"
