"""A report as one HTML file that asks the network for nothing: styles inside, pictures as data."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import jinja2
from PIL import Image

import earthgen
from earthgen.provenance import STATEMENT, stamped
from perception.validation.findings import VERDICTS, Figure, Report

_QUALITY = 88
_MARKS = {"pass": "✓", "warn": "!", "fail": "✗", "not applicable": "–"}


def render(report: Report) -> str:
    """The whole page. Whatever comes from the world or a model is text: it is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["picture"] = picture_data
    counts = {verdict: sum(check.verdict == verdict for check in report.checks) for verdict in VERDICTS}
    page: str = environment.get_template("report.html.jinja").render(
        report=report,
        counts=counts,
        marks=_MARKS,
        statement=STATEMENT,
        version=earthgen.__version__,
        world_json=json.dumps(report.world, indent=1, ensure_ascii=False),
    )
    return page


def picture_data(figure: Figure) -> str:
    """A picture as a data address; it says inside itself that it is generated."""
    stream = io.BytesIO()
    Image.fromarray(figure.pixels).save(stream, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(stamped(stream.getvalue())).decode()
