"""Backends: another runner of the same layers keeps every promise about bytes, and says when it cannot run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from earthgen.backends import Backend, OpenVinoModule, check_backend, install
from earthgen.cli_options import EngineOptions
from earthgen.denoiser import Condition, DetailDenoiser
from earthgen.engine import Engine
from earthgen.errors import BackendError
from earthgen.pyramid import ROOT_ZOOM, Box
from earthgen.world import World
from tests.tiny import open_tiny, ripple_root, save_tiny_weights, tiny_net
from tileserver.service import open_engine as open_served_engine
from tileserver.settings import Settings

CPU = torch.device("cpu")
WORLD = World(seed=5)
BOX = Box(8, 9000, 21000, 200, 136)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(autouse=True)
def _ripples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("earthgen.engine.open_root", ripple_root)


def available(backend: Backend) -> Backend:
    """The backend, or the test is skipped where the package or the processor lacks it."""
    pytest.importorskip("openvino")
    try:
        return check_backend(backend, CPU)
    except BackendError as error:
        pytest.skip(str(error))


@pytest.fixture(params=["openvino", "openvino-bf16"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return available(request.param)


@pytest.fixture
def compiled(weights: Path, backend: Backend) -> Iterator[Engine]:
    with open_tiny(weights, backend=backend, threads=1) as engine:
        yield engine


def test_an_unknown_backend_is_named_with_those_that_are_there(weights: Path) -> None:
    with pytest.raises(BackendError, match="backend 'tpu'; allowed: torch, openvino, openvino-bf16"):
        open_tiny(weights, backend="tpu")


@pytest.mark.parametrize("name", ["openvino", "openvino-bf16"])
def test_a_backend_that_is_not_installed_says_how_to_get_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendError, match=r"pip install 'earthgen\[openvino\]'"):
        check_backend(name, CPU)


@pytest.mark.parametrize("name", ["openvino", "openvino-bf16"])
def test_openvino_is_for_the_cpu(name: str) -> None:
    with pytest.raises(BackendError, match="not on cuda"):
        check_backend(name, torch.device("cuda"))


def test_a_processor_without_bfloat16_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    openvino = pytest.importorskip("openvino")
    monkeypatch.setattr(openvino.Core, "get_property", lambda *_: ["FP32", "INT8"])
    assert check_backend("openvino", CPU) == "openvino"
    with pytest.raises(BackendError, match="no bfloat16 instructions; use 'openvino'"):
        check_backend("openvino-bf16", CPU)


def test_pixels_are_those_of_torch_but_for_rounding(weights: Path, compiled: Engine, backend: Backend) -> None:
    with open_tiny(weights, threads=1) as engine:
        expected = engine.pixels(WORLD, BOX).astype(np.int64)
        assert engine.fingerprint != compiled.fingerprint
    difference = np.abs(compiled.pixels(WORLD, BOX) - expected)
    # Bfloat16 has 8 bits of fraction; two levels and two steps add up.
    assert difference.mean() < (0.05 if backend == "openvino" else 0.5)
    assert difference.max() <= (3 if backend == "openvino" else 12)


def test_children_average_to_their_parents(compiled: Engine) -> None:
    children = compiled.pixels(WORLD, BOX).reshape(50, 4, 34, 4, 3).sum(axis=(1, 3), dtype=np.int64)
    assert np.array_equal(children, 16 * compiled.pixels(WORLD, BOX.parent()).astype(np.int64))


def test_bytes_do_not_depend_on_threads_or_order(weights: Path, compiled: Engine, backend: Backend) -> None:
    whole = compiled.pixels(WORLD, BOX)
    with open_tiny(weights, backend=backend, threads=3) as other:
        lower = other.pixels(WORLD, Box(8, BOX.row + 100, BOX.column, 100, 136))
        upper = other.pixels(WORLD, Box(8, BOX.row, BOX.column, 100, 136))
    assert np.array_equal(whole, np.concatenate([upper, lower]))


def test_each_shape_of_input_is_compiled_for_itself() -> None:
    pytest.importorskip("openvino")
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(3, 4, 3, padding=1).eval().requires_grad_(False)
    module = OpenVinoModule(layer, 1)
    for side in (8, 12, 8):
        x = torch.randn(1, 3, side, side)
        first, again = module(x), module(x + 1)
        assert torch.allclose(first, layer(x), atol=1e-5)
        assert torch.allclose(again, layer(x + 1), atol=1e-5)  # And the first answer was not written over.
        assert torch.allclose(first, layer(x), atol=1e-5)


def refined_net() -> DetailDenoiser:
    """The tiny network with convolutions over children, none of its weights zero."""
    settings = {name: value for name, value in tiny_net().config.items() if not name.startswith("_")}
    settings |= {name: 4 for name in ("refinement",) if name in settings}
    net: DetailDenoiser = DetailDenoiser(**settings)
    random = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=random)
    return net.eval().requires_grad_(False)


class Restless(torch.nn.Module):
    """Gives something else on each call, which no conversion can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * self.calls


def test_a_conversion_that_computes_something_else_is_refused() -> None:
    pytest.importorskip("openvino")
    with pytest.raises(BackendError, match="something else than torch for Restless"):
        OpenVinoModule(Restless(), 1)(torch.ones(1, 3))


def test_a_network_with_every_part_is_computed_as_by_torch() -> None:
    pytest.importorskip("openvino")
    net, compiled = (refined_net() for _ in range(2))
    install("openvino", compiled, 1)
    replaced = {name for name, layer in compiled.named_modules() if isinstance(layer, OpenVinoModule)}
    assert replaced == {"unet"} | {name for name, _ in net.named_modules() if name in ("refine.widen", "refine.narrow")}
    condition = Condition(torch.rand(1, 3, 16, 16) * 2 - 1, torch.full((1, 16), 3.0), torch.zeros(1))
    state = torch.randn(1, 45, 16, 16)
    expected = net(state, torch.zeros(1), condition)
    assert torch.allclose(compiled(state, torch.zeros(1), condition), expected, atol=1e-4)


def test_the_root_is_not_the_backends_business(weights: Path, compiled: Engine) -> None:
    box = Box(ROOT_ZOOM, 100, 200, 64, 64)
    with open_tiny(weights, threads=1) as engine:
        assert np.array_equal(engine.pixels(WORLD, box), compiled.pixels(WORLD, box))


def test_the_environment_of_a_command_picks_the_backend(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARTHGEN_BACKEND", "tpu")
    options = EngineOptions(no_cache=True, weights=str(weights), threads=1)
    with pytest.raises(BackendError, match="backend 'tpu'"), options.open():
        pass


def test_the_settings_of_a_server_pick_the_backend(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARTHGEN_BACKEND", "tpu")
    with pytest.raises(BackendError, match="backend 'tpu'"):
        open_served_engine(Settings(weights=str(weights)))
