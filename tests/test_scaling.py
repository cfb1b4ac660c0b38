"""The scaling study: widths, the fall of loss with images, and its table."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from benchmarks import scaling
from earthgen.denoiser import DetailDenoiser
from training import cascade


def point(width: float, images: int, loss: float) -> dict[str, object]:
    return {
        "width": width,
        "parameters": int(3.7e6 * width**2),
        "images": images,
        "hours": 0.1,
        "loss": loss,
        "vgg": [900.0, 100.0],
        "lite": [90.0, 10.0],
    }


def test_width_1_is_the_network_that_ships() -> None:
    assert cascade.channels_of(1) == DetailDenoiser().config["channels"] == (80, 160, 256)


def test_networks_of_other_widths_are_rebuilt_from_their_configuration() -> None:
    net = DetailDenoiser(channels=cascade.channels_of(0.3), blocks=(1, 1, 1, 1, 1), text_width=8)
    DetailDenoiser.from_config(net.config).load_state_dict(net.state_dict())
    assert net.config["channels"] == (24, 48, 80)


def test_a_power_law_is_found_again() -> None:
    points = [point(1, images, 3 * images**-0.25) for images in (100, 1000, 10000)]
    assert scaling.exponent(points) == pytest.approx(-0.25)
    assert any("takes 44% off" in line or "take 44% off" in line for line in scaling.report(points, points[0]))


def test_a_page_without_a_place_for_the_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(_data: Path, runs: Path, width: float, images: int, *_: object) -> None:
        kept = runs / f"width-{width:g}" / f"point-{images}.json"
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(point(width, images, 1.0)))

    monkeypatch.setattr(scaling, "measured", measured)
    monkeypatch.setattr(scaling, "shipped", lambda *_: point(1, 160, 1.0))
    page = tmp_path / "page.md"
    page.write_text("words\n")
    app = typer.Typer()
    app.command()(scaling.main)
    arguments = ["--runs", str(tmp_path), "--page", str(page)]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 2 and scaling.BEGIN in refused.output
    page.write_text(f"words\n{scaling.BEGIN}\nold\n{scaling.END}\nmore\n")
    assert CliRunner().invoke(app, arguments).exit_code == 0
    text = page.read_text()
    assert "old" not in text and text.startswith("words") and text.endswith("more\n") and "| 160 |" in text


def test_weights_that_are_begun_with_bring_their_own_width(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(cascade.main)
    refused = CliRunner().invoke(app, ["--out", str(tmp_path / "run"), "--init", str(tmp_path), "--width", "2"])
    assert refused.exit_code == 2 and "--width" in refused.output
    assert not (tmp_path / "run").exists()
