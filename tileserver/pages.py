"""What a browser gets: the map's static files, and the API's description as a page that needs no script."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import mimetypes
import re
from functools import cache
from pathlib import Path
from typing import Any

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

STATIC_FOLDER = Path(__file__).parent / "static"
IMMUTABLE = "public, max-age=31536000, immutable"

_PAGE_SUFFIXES = {".css", ".js", ".mjs", ".svg"}
"""Of the files that the page is made of; its HTML is served as the page itself."""
_VERSIONED = re.compile(r"/[^/]*-\d+\.\d+[^/]*/")
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
@media (prefers-color-scheme: dark) { body { background: #111; color: #ddd; } a { color: #8bf; } }
code { overflow-wrap: anywhere; } td, th { padding: .1rem .8rem .1rem 0; text-align: left; vertical-align: top; }
h2 { font-size: 1.1rem; } section { border-top: 1px solid #8884; } .method { font-weight: bold; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
REFERENCE_POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; frame-ancestors 'none'"
"""The reference page's Content-Security-Policy: its own style and nothing else."""


class MapFiles(StaticFiles):
    """Static files: a path with a version in it may be kept for ever, any other is revalidated."""

    def __init__(self) -> None:
        # Not in every system's table, and a browser runs no module of another type.
        mimetypes.add_type("text/javascript", ".mjs")
        mimetypes.add_type("text/javascript", ".js")
        super().__init__(directory=STATIC_FOLDER, check_dir=False)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """One file, with its caching."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = IMMUTABLE if _VERSIONED.search(f"/{path}") else "no-cache"
        return response


@cache
def service_worker() -> str:
    """The script that keeps the page in the browser, with the list of its files and a version of all their bytes."""
    script = STATIC_FOLDER / "service_worker.js"
    paths = sorted(path for path in STATIC_FOLDER.rglob("*") if path.suffix in _PAGE_SUFFIXES and path != script)
    digest = hashlib.sha256(script.read_bytes())
    for path in [STATIC_FOLDER / "index.html", *paths]:
        digest.update(path.read_bytes())
    files = ["./", *(f"static/{path.relative_to(STATIC_FOLDER).as_posix()}" for path in paths)]
    values = {"VERSION": digest.hexdigest()[:16], "FILES": files}
    head = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items())
    return head + script.read_text()


def reference_page(document: dict[str, Any]) -> str:
    """An OpenAPI document as one HTML page."""
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(document['info']['title'])} API</title>",
        "<meta name=viewport content='width=device-width'>",
        f"<style>{_STYLE}</style><h1>{html.escape(document['info']['title'])} API</h1>",
        f"<p>{html.escape(document['info'].get('description', ''))}</p>",
        "<p>Machine-readable: <a href='openapi.json'>openapi.json</a>. The map: <a href='./'>here</a>.</p>",
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts.append(_operation(path, method, operation))
    return "".join(parts)


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    text = html.escape(operation.get("description") or operation.get("summary", ""))
    rows = "".join(_parameter(parameter) for parameter in operation.get("parameters", ()))
    table = f"<table><tr><th>parameter<th>in<th>allowed<th>meaning{rows}</table>" if rows else ""
    answers = ", ".join(html.escape(code) for code in operation.get("responses", ()))
    return (
        f"<section><h2><span class=method>{method.upper()}</span> <code>{html.escape(path)}</code></h2>"
        f"<p>{text}</p>{table}<p>Answers: {answers}</p></section>"
    )


def _parameter(parameter: dict[str, Any]) -> str:
    name = html.escape(parameter["name"]) + (" (needed)" if parameter.get("required") else "")
    allowed = html.escape(_allowed(parameter.get("schema", {})))
    meaning = html.escape(parameter.get("description", ""))
    return f"<tr><td><code>{name}</code><td>{parameter['in']}<td>{allowed}<td>{meaning}"


def _allowed(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "anyOf" in schema:
        return " or ".join(_allowed(part) for part in schema["anyOf"] if part.get("type") != "null")
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        values = list(map(str, schema["enum"]))
        return ", ".join(values[:12]) + (", ..." if len(values) > 12 else "")
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    words = str(schema.get("type", "any"))
    if "items" in schema:
        words += f" of {_allowed(schema['items'])}"
    if "minimum" in schema or "maximum" in schema:
        words += f" {schema.get('minimum', '')}..{schema.get('maximum', '')}"
    if "maxLength" in schema:
        words += f", at most {schema['maxLength']} characters"
    return words
