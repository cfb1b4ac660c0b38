"""The map page in a browser: a server to load it from, and reading what is on screen."""

from __future__ import annotations

import io
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from PIL import Image

if TYPE_CHECKING:
    from fastapi import FastAPI

# WebGL in software: test machines have no graphics card, and what is not WebGL is drawn sooner without pretending one.
ARGUMENTS = (
    "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist",
    "--disable-gpu-rasterization",
)  # fmt: skip
IDLE = "html[data-map=idle]"
# A real server has to generate what the tests look at.
WAIT_MS = 600_000 if "EARTHGEN_MAP_URL" in os.environ else 60_000
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}

OpenPage = Callable[..., Any]


@contextmanager
def serve(app: FastAPI, *, port: int = 0, **options: Any) -> Iterator[str]:
    """Serve an app on this machine, on a free port if none is given; gives its address. `options` are uvicorn's."""
    import uvicorn

    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", **options))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            # Until then connections are refused.
            time.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


def fragment(page: Any) -> dict[str, str]:
    """What the page's link says."""
    return {key: values[0] for key, values in parse_qs(urlsplit(page.url).fragment).items()}


def pixel(page: Any, x: int, y: int) -> tuple[int, int, int]:
    """A colour on screen."""
    image = Image.open(io.BytesIO(page.screenshot(clip={"x": x, "y": y, "width": 1, "height": 1}))).convert("RGB")
    # Several pixels of a screen that has more of them than CSS.
    red, green, blue = image.tobytes()[:3]
    return red, green, blue


def colours(page: Any, clip: dict[str, int]) -> int:
    """How many different colours a part of the screen shows."""
    image = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
    return len(image.getcolors(maxcolors=1 << 24) or ())


def outside(page: Any) -> list[str]:
    """What stands out of the window's left or right edge."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, textarea, output, .card, .credits, .readout")]
            .map((e) => [e.id || e.className, e.getBoundingClientRect()])
            .filter(([, box]) => box.width > 1 && (box.left < 0 || box.right > innerWidth))
            .map(([name]) => name)"""
    )
    return found


def nameless(page: Any) -> list[str]:
    """Controls that nothing gives a name."""
    found: list[str] = page.evaluate(
        """() => ["button, input, select, textarea, canvas, dialog, progress, [role=slider]"]
            .flatMap((kinds) => [...document.querySelectorAll(kinds)])
            .filter((e) => !["aria-label", "aria-labelledby"].some((name) => e.getAttribute(name)))
            .filter((e) => !(e.labels?.length || e.textContent.trim()))
            .map((e) => e.outerHTML)"""
    )
    return found


def answer(status: int, detail: str, **headers: str) -> Callable[[Any], None]:
    """A route handler that answers with an error of the service."""
    body = json.dumps({"detail": detail})
    return lambda route: route.fulfill(status=status, body=body, content_type="application/json", headers=headers)
