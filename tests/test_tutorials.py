"""The tutorials run as they stand: every block of a tutorial, in order, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "tutorials.md"
_UNTESTED = "<!-- runs until it is stopped -->"
_BLOCK = re.compile(r"(?P<before>[^\n]*)\n```(?P<kind>sh|python)\n(?P<code>.*?)```", re.DOTALL)


def tutorials() -> dict[str, list[tuple[str, str]]]:
    """Kind and code of the blocks of each tutorial."""
    _, *parts = re.split(r"^## (.*)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = {}
    for title, text in zip(parts[::2], parts[1::2], strict=True):
        blocks = [match for match in _BLOCK.finditer(text) if match["before"] != _UNTESTED]
        found[title] = [(match["kind"], match["code"]) for match in blocks]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("title", tutorials())
def test_a_tutorial_runs_as_it_stands(title: str, tmp_path: Path) -> None:
    blocks = tutorials()[title]
    assert blocks
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "EARTHGEN_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    (tmp_path / "here").mkdir()
    for kind, code in blocks:
        command = ["bash", "-eu", "-c", code] if kind == "sh" else [sys.executable, "-c", code]
        done = subprocess.run(
            command, cwd=tmp_path / "here", env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
