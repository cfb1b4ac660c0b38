"""Which process runs which tests, and in what order: no core is idle while another has a long file before it.

`pytest --dist loadfile` hands out the files with most tests first, but time is not in numbers: a tutorial is one test.
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

LONG = (
    "test_map_accessibility", "test_map_layout", "test_map_edits", "test_map", "test_prompt_worlds", "test_dump_views",
    "test_clean_room", "test_map_compare", "test_roots", "test_countryside", "test_killed_worker", "test_map_changes",
    "test_tutorials", "test_multiview", "test_map_ask", "test_transfer_change", "test_dump_store", "test_quality",
    "test_map_offline", "test_training", "test_service_engine", "test_engine", "test_map_segment",
    "test_service_observed", "test_service_security", "test_faults", "test_map_gallery", "test_shipped",
)  # fmt: skip
"""Files that take half a minute and more on two cores, the longest first."""
APART = ("test_tutorials",)
"""Files of long tests that share nothing."""


def stem(test: str) -> str:
    """Name of a test's file, without folder and ending."""
    return test.partition("::")[0].rpartition("/")[2].removesuffix(".py")


def unit(test: str) -> str:
    """What runs in one process together with a test: its file, or itself alone."""
    return test if stem(test) in APART else test.partition("::")[0]


def rank(test: str) -> int:
    """Where a test's file comes among the long ones; the same number, the largest, for all others."""
    name = stem(test)
    return LONG.index(name) if name in LONG else len(LONG)


class LongestFirst(LoadFileScheduling):  # type: ignore[misc]  # xdist carries no types
    """Hands out whole files in the order of the tests, which `rank` has sorted."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        super().__init__(config, log)
        # Else by their numbers of tests.
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)
