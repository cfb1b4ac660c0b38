"""What the package promises as a package: its names, the direction of its imports, what its wheel carries."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import earthgen
from earthgen import errors

ROOT = Path(__file__).parents[1]
SHIPPED = ("earthgen", "perception", "tileserver", "trainingsets")
PACKAGES = (*SHIPPED, "training", "datasets", "benchmarks")
# Who may import whom; the command line's `serve` is the one exception.
MAY_IMPORT = {
    "earthgen": set(),
    "perception": {"earthgen"},
    "tileserver": {"earthgen", "perception"},
    "trainingsets": {"earthgen", "perception"},
    "datasets": {"earthgen", "perception", "trainingsets"},
    "training": {"datasets", "earthgen", "perception", "trainingsets"},
    "benchmarks": {"datasets", "earthgen", "perception", "tileserver", "training", "trainingsets"},
}
EXCEPTIONS = {("earthgen/cli.py", "tileserver")}


def in_fresh_interpreter(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_earthgen_loads_no_other_room_and_nothing_heavy() -> None:
    script = """
import sys
import earthgen
from earthgen import Box, Edit, World, WorldRegistry, EarthgenError
print(*sorted({name.split(".")[0] for name in sys.modules}))
"""
    loaded = set(in_fresh_interpreter(script).split())
    assert "earthgen" in loaded
    assert not loaded & {
        "perception",
        "tileserver",
        "training",
        "trainingsets",
        "datasets",
        "torch",
        "diffusers",
        "fastapi",
        "rasterio",
    }


def test_public_names_are_sorted_and_exist() -> None:
    assert earthgen.__all__ == sorted(earthgen.__all__)
    for name in earthgen.__all__:
        assert getattr(earthgen, name) is not None
        assert name in dir(earthgen)


def test_every_error_is_public_and_an_earthgen_error() -> None:
    classes = {name: value for name, value in vars(errors).items() if isinstance(value, type)}
    assert set(classes) <= set(earthgen.__all__)
    for name, value in classes.items():
        assert getattr(earthgen, name) is value
        assert issubclass(value, earthgen.EarthgenError)
        assert f"{name} " in str(errors.__doc__) or f"{name}\n" in str(errors.__doc__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Mars'"):
        _ = earthgen.Mars


def imported_packages(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        wrong = (imported_packages(path) & set(PACKAGES)) - MAY_IMPORT[package] - {package}
        assert {(name, other) for other in wrong} <= EXCEPTIONS


def test_the_command_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"earthgen": "earthgen.cli:main"}
    assert {"gpu", "train", "text", "perception", "openvino", "docs", "dev"} <= set(project["optional-dependencies"])


def test_the_wheel_carries_what_users_need_and_nothing_else(tmp_path: Path) -> None:
    from hatchling.builders.wheel import WheelBuilder

    (built,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(built) as wheel:
        names = set(wheel.namelist())
    assert {name.split("/")[0] for name in names} == {*SHIPPED, f"earthgen-{earthgen.__version__}.dist-info"}
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in SHIPPED
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert {"earthgen/py.typed", "tileserver/static/index.html"} <= expected
    assert f"earthgen-{earthgen.__version__}.dist-info/licenses/LICENSE" in names


def test_the_changelog_knows_this_version_or_says_unreleased() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{earthgen.__version__}]" in text or "## [Unreleased]" in text


def test_the_documentations_contents_are_its_files() -> None:
    listed = set()
    for line in (ROOT / "mkdocs.yml").read_text(encoding="utf-8").splitlines():
        if line.startswith("  - ") and line.endswith(".md"):
            listed.add(line.split(": ")[-1])
    assert listed == {path.name for path in (ROOT / "docs").glob("*.md")}


@pytest.mark.parametrize("name", ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_links_between_files_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), target
