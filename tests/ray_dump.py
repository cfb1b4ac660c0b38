"""A dump on Ray in a process of its own: Ray leaves threads and signal handlers behind, and warns on its way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_SCRIPT = """
import sys
from pathlib import Path
from tests.fake_dump import PaintingOpener
from tests.test_dump import MADE_BY, spec_of
from trainingsets.folder import DumpFolder
from trainingsets.running import run

folder = DumpFolder.create(Path(sys.argv[1]), spec_of(count=int(sys.argv[2])), MADE_BY, resume=False)
outcome = run(folder, PaintingOpener(), backend="ray", workers=2)
assert outcome.complete and outcome.made == int(sys.argv[2]), outcome
"""


def in_its_own_process(path: Path, count: int) -> None:
    """Make a dump of `count` items."""
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(path), str(count)], capture_output=True, text=True, cwd=root, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]
