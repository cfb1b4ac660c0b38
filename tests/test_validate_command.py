"""`earthgen validate`: the report as a file, exit codes, and one sentence for what cannot be looked at."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import earthgen.engine
from earthgen.cli import main
from earthgen.provenance import SOURCE_TYPE
from earthgen.pyramid import point_pixel
from perception.validation.findings import Check, Figure, Report
from perception.validation.html import render
from tests.broken_world import Source, with_seam
from tests.tiny import open_tiny, ripple_prompts, ripple_root, save_tiny_weights

AREA = ["--bbox", "11.30,47.20,11.40,47.26", "--seed", "7"]
QUICK = ["--checks", "seams,parents,edit-bounds", "-q"]
NASTY = '<script src="http://evil.example/x.js">alert(1)</script> & "quoted" \' <img src=x onerror=alert(1)>'
VOID = {"meta", "img", "br", "link", "input", "hr"}

Says = Callable[..., str]


class Page(HTMLParser):
    """Checks nesting while it reads, and remembers tags, attributes and text."""

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(content)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"{tag} has an attribute twice"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder and a cache of its own, no settings from the environment, and a tiny network over ripples."""
    for name in list(os.environ):
        if name.startswith("EARTHGEN_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("EARTHGEN_WEIGHTS", str(save_tiny_weights(tmp_path / "weights")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(earthgen.engine, "open_root", ripple_root)
    monkeypatch.setattr(earthgen.engine, "open_prompt_root", ripple_prompts)


@pytest.fixture
def says(capsys: pytest.CaptureFixture[str]) -> Says:
    """Run a command that must fail: exit code 2 and one line, which is returned; nothing is written."""

    def run(*words: str) -> str:
        before = sorted(Path().iterdir())
        assert main(["validate", *words]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("earthgen: ") and captured.err.count("\n") == 1
        assert sorted(path for path in Path().iterdir() if path.name != "xdg") == [
            path for path in before if path.name != "xdg"
        ]
        return captured.err

    return run


def test_the_contract_of_an_earth_world(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*AREA, "--zooms", "12-13", "-o", "report.html", "--json", "report.json", *QUICK]
    assert main(["validate", *words]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^pass +seams +zoom 12: .*; zoom 13: ", out, re.MULTILINE)
    assert out.endswith("report.html: pass\n")
    report = json.loads(Path("report.json").read_text())
    assert report["verdict"] == "pass"
    assert report["about"]["zooms"] == "12, 13"
    assert [check["verdict"] for check in report["checks"]] == ["pass", "pass", "not applicable"]
    page = Page(Path("report.html").read_text())
    assert "Parents and children" in page.text


def test_the_contract_of_a_world_by_prompt_with_an_edit(capsys: pytest.CaptureFixture[str]) -> None:
    edit = {"prompt": "lake", "polygon": [[-0.002, -0.002], [0.002, -0.002], [0.002, 0.002], [-0.002, 0.002]]}
    Path("edits.json").write_text(json.dumps([edit]))
    new = ["world", "new", "--root", "prompt", "--prompt", "dense forest", "--gsd", "2.4", "--edits", "edits.json"]
    assert main(new) == 0
    name = capsys.readouterr().out.split()[0]
    code = main(["validate", "--world", name, "-o", "report.html", "--json", "report.json", "-q"])
    report = json.loads(Path("report.json").read_text())
    found = {check["name"]: check["verdict"] for check in report["checks"]}
    # Ripples are no forest: what they look like fails, what the engine promises holds.
    assert code == 1
    assert (found["parents"], found["edit-bounds"], found["anomaly"]) == ("pass", "pass", "fail")
    assert found["change"] in ("pass", "warn", "fail")
    assert {row["detector"] for check in report["checks"] if check["name"] == "change" for row in check["rows"]} == {
        "cdmamba",
        "semantic-cd",
    }
    assert "dense forest" in " ".join(Page(Path("report.html").read_text()).text)


def test_a_seam_makes_the_exit_code_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    engine = open_tiny(Path("weights"))
    broken = with_seam(engine.pixels, 13, point_pixel(11.35, 47.23, 13)[1] // 64 * 64, 24)

    class Opened(Source):
        def __enter__(self) -> Opened:
            return self

        def __exit__(self, *_: object) -> None:
            engine.close()

    monkeypatch.setattr(earthgen.engine.Engine, "open", lambda *_, **__: Opened(broken.make))
    assert main(["validate", *AREA, "--zoom", "13", "-o", "report.html", *QUICK]) == 1
    assert re.search(r"^fail +seams ", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--seed", "7", "-o", "r.html"], "no bbox is given; a world that is not by prompt needs one"),
        (["--bbox", "1,2,3", "-o", "r.html"], "bbox is '1,2,3'; four numbers"),
        ([*AREA, "-o", "r.pdf"], "r.pdf ends in '.pdf'; allowed: .html, .htm"),
        ([*AREA, "-o", "r.html", "--json", "r.txt"], "r.txt ends in '.txt'; allowed: .json"),
        ([*AREA, "-o", "missing/r.html"], "folder missing does not exist"),
        ([*AREA, "-o", "r.html", "--zoom", "19"], "zoom 19 is outside 0..18"),
        ([*AREA, "-o", "r.html", "--zoom", "18"], "pixels at zoom 18; at most 4194304 are allowed"),
        ([*AREA, "-o", "r.html", "--zooms", "13-12"], "zooms is '13-12'; 1 to 19 zooms are allowed"),
        ([*AREA, "-o", "r.html", "--zooms", "1-9999999999"], "1 to 19 zooms are allowed"),
        ([*AREA, "-o", "r.html", "--zooms", "a-b"], "zooms is 'a-b'; A-B or A,B such as 12-14 is allowed"),
        ([*AREA, "-o", "r.html", "--zooms", "12-13", "--zoom", "12"], "both --zoom and --zooms are given"),
        ([*AREA, "-o", "r.html", "--dates", "soon"], "date is 'soon'; an ISO date"),
        ([*AREA, "-o", "r.html", "--dates", "2026-02-01,2026-01-01"], "different ones from early to late"),
        ([*AREA, "-o", "r.html", "--checks", "taste"], "checks are taste; allowed: anomaly, spectrum, seams"),
        (["--bbox", "1,1,2,2", "--world", "nobody", "-o", "r.html"], "nobody"),
        (["--bbox", "1,1,2,2", "--world", "earth", "--seed", "3", "-o", "r.html"], "give either --world"),
    ],
)
def test_what_cannot_be_looked_at_is_one_sentence(words: list[str], sentence: str, says: Says) -> None:
    assert sentence in says(*words, "-q")


def test_help_loads_nothing_heavy() -> None:
    script = """
import sys
from earthgen.cli import main
main(["validate", "--help"])
heavy = {"torch", "scipy", "rasterio", "numpy", "jinja2"} & {name.split(".")[0] for name in sys.modules}
print("HEAVY", sorted(heavy))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    assert "--dates" in done.stdout and "--date " not in done.stdout
    assert done.stdout.endswith("HEAVY []\n")


# --- The page ---


def nasty_report() -> Report:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    figure = Figure(pixels, NASTY)
    rows: tuple[dict[str, Any], ...] = ({NASTY: NASTY, "p": float("nan"), "verdict": "fail"},)
    check = Check("anomaly", NASTY, NASTY, "fail", NASTY, NASTY, NASTY, rows, (figure, figure))
    return Report({"prompt": NASTY}, {"world": NASTY, "edits": 3}, (check,), (figure,))


def test_whatever_a_world_says_is_text() -> None:
    content = render(nasty_report())
    page = Page(content)
    assert NASTY in "".join(page.text)
    assert not {"script", "iframe", "object", "embed", "link", "base", "form"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]


def test_the_page_asks_the_network_for_nothing() -> None:
    page = Page(render(nasty_report()))
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action", "poster", "background"):
            address = attributes.get(name)
            assert address is None or address.startswith(("data:image/jpeg;base64,", "#")), f"{tag} {name}"
    policy = [attributes["content"] for tag, attributes in page.tags if attributes.get("http-equiv")]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert "url(" not in render(nasty_report()) and "@import" not in render(nasty_report())


def test_pictures_are_in_the_page_and_say_that_they_are_generated() -> None:
    page = Page(render(nasty_report()))
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 3
    for attributes in pictures:
        content = base64.b64decode(str(attributes["src"]).partition(",")[2])
        assert SOURCE_TYPE.encode() in content
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.size == (60, 40)
            picture.load()
        assert attributes["alt"] == NASTY


def test_numbers_that_are_none_do_not_spoil_json(tmp_path: Path) -> None:
    nasty_report().write_json(tmp_path / "report.json")
    value = json.loads((tmp_path / "report.json").read_text(), parse_constant=lambda _: pytest.fail("not JSON"))
    assert value["checks"][0]["rows"][0]["p"] is None


@pytest.mark.browser
def test_a_browser_shows_it_without_a_request_or_a_complaint(running_browser: Any, tmp_path: Path) -> None:
    nasty_report().write_html(tmp_path / "report.html")
    page = running_browser.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.goto((tmp_path / "report.html").as_uri())
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth === 60)")
    assert complaints == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    page.close()
