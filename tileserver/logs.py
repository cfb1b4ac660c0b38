"""Logs with request ids: a line of text for people, or a JSON object a line for programs."""

from __future__ import annotations

import datetime
import json
import logging
import re
import uuid
from contextvars import ContextVar
from typing import Any, Literal

from uvicorn.logging import DefaultFormatter

LogFormat = Literal["text", "json"]

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""Of the request that the current task or thread works for; "" outside of any."""

_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), 127)} | {10: "\\n", 13: "\\r"}


def accepted_id(proposed: str) -> str:
    """The id that a client proposes, if it can do no harm in a log; a new one otherwise."""
    return proposed if _SAFE_ID.fullmatch(proposed) else uuid.uuid4().hex


class JsonFormatter(logging.Formatter):
    """A record as one JSON object: time, level, logger, message, request_id, its `fields`, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        entry: dict[str, Any] = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if known := request_id.get():
            entry["request_id"] = known
        entry |= getattr(record, "fields", {})
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


class TextFormatter(DefaultFormatter):
    """A record as uvicorn writes it, with the request's id; what a client sent cannot begin a line of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The first line."""
        record.message = record.message.translate(_CONTROLS)
        known = request_id.get()
        return super().formatMessage(record) + (f" [{known}]" if known else "")


def log_config(log_format: LogFormat) -> dict[str, Any]:
    """What `logging.config.dictConfig` needs for the server and the packages behind it."""
    formatter = (
        {"()": "tileserver.logs.JsonFormatter"}
        if log_format == "json"
        else {"()": "tileserver.logs.TextFormatter", "fmt": "%(levelprefix)s %(message)s"}
    )
    ours = {"handlers": ["default"], "level": "INFO", "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"default": formatter},
        "handlers": {
            "default": {"formatter": "default", "class": "logging.StreamHandler", "stream": "ext://sys.stderr"}
        },
        "loggers": {name: ours for name in ("uvicorn", "tileserver", "earthgen", "perception")},
    }
