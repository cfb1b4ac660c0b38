"""Long files come first and stay whole, and every test runs once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.scheduling import APART, LONG, LongestFirst, rank

FOLDER = Path(__file__).parent


class Process:
    """As xdist sees one: what it has been sent."""

    def __init__(self, tests: list[str]) -> None:
        self.tests = tests
        self.sent: list[str] = []
        self.shutting_down = False
        self.gateway = SimpleNamespace(id="a process")

    def send_runtest_some(self, indices: list[int]) -> None:
        self.sent += [self.tests[index] for index in indices]

    def shutdown(self) -> None:
        self.shutting_down = True


def handed_out(tests: list[str]) -> list[Process]:
    """Two processes between which tests have been divided, each of which takes as long as another."""
    options = SimpleNamespace(loadscopereorder=True, tx=["popen", "popen"], maxprocesses=None, numprocesses=2)
    config: Any = SimpleNamespace(option=options, getvalue=lambda name: getattr(options, name))
    scheduler = LongestFirst(config)
    processes = [Process(tests) for _ in range(2)]
    for process in processes:
        scheduler.add_node(process)
    for process in processes:
        scheduler.add_node_collection(process, tests)
    scheduler.schedule()
    done = 0
    while any(done < len(process.sent) for process in processes):
        for process in processes:
            if done < len(process.sent):
                scheduler.mark_test_complete(process, tests.index(process.sent[done]))
        done += 1
    return processes


def test_the_files_that_are_named_are_there() -> None:
    for name in (*LONG, *APART):
        assert (FOLDER / f"{name}.py").is_file()
    assert len(set(LONG)) == len(LONG)


def test_long_files_come_first_and_the_rest_as_it_was() -> None:
    tests = [
        "tests/test_b.py::one",
        f"tests/{LONG[1]}.py::one",
        "tests/test_a.py::one",
        f"tests/{LONG[0]}.py::one[a/b]",
    ]
    assert sorted(tests, key=rank) == [tests[3], tests[1], tests[0], tests[2]]


def test_files_stay_whole_and_tests_that_share_nothing_are_divided() -> None:
    apart = [f"tests/{APART[0]}.py::one[{number}]" for number in range(4)]
    files = [[f"tests/test_{name}.py::{number}" for number in range(9)] for name in "abcd"]
    tests = [*apart, *(test for file in files for test in file)]
    processes = handed_out(tests)
    assert sorted(processes[0].sent + processes[1].sent) == sorted(tests)
    for file in files:
        assert any(set(file) <= set(process.sent) for process in processes)
    for process in processes:
        # In order, though files at the end have more tests.
        assert process.sent == sorted(process.sent, key=tests.index)
        assert any(test in apart for test in process.sent)


def test_one_process_gets_all_of_a_single_file() -> None:
    tests = [f"tests/test_a.py::{number}" for number in range(5)]
    assert sorted(len(process.sent) for process in handed_out(tests)) == [0, 5]
