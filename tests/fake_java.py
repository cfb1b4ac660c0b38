"""A `java` that answers as METEOR's program does; the real one takes ten seconds and more to read its tables."""

from __future__ import annotations

import sys
from pathlib import Path

# A line of counts for SCORE, here whether some reference says just this; for EVAL each score and then the whole.
_PROGRAM = """#!{python}
import sys
for line in iter(sys.stdin.readline, ""):
    kind, *parts = line.strip().split(" ||| ")
    if kind == "SCORE":
        print(int(parts[-1] in parts[:-1]), flush=True)
    else:
        print("\\n".join([*parts, str(sum(map(float, parts)) / len(parts))]), flush=True)
"""


def fake_java(folder: Path) -> Path:
    """Write it into a folder, which it gives back: a PATH of its own."""
    program = folder / "java"
    program.write_text(_PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    return folder
