"""The selective scan: every implementation gives the numbers and gradients of the plain loop."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from earthgen.errors import InvalidRequestError
from perception.errors import DependencyError
from perception.scan import Implementation, available, compiled, selective_scan
from perception.scan.cuda import cuda_scan

FAST: tuple[Implementation, ...] = ("blocked", "compiled")


@pytest.fixture(autouse=True)
def threads_are_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Share even the tiny scans of these tests among threads, where a test asks for several."""
    monkeypatch.setattr(compiled, "WORTH_A_THREAD", 1)


def example(
    groups: int = 2,
    batch: int = 2,
    channels: int = 3,
    states: int = 16,
    length: int = 20,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Any]:
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64).to(dtype)

    return {
        "u": normal(groups, batch, channels, length),
        "delta": normal(groups, batch, channels, length) * 2 - 1,
        "A": -torch.arange(1, states + 1).to(dtype) * normal(groups, channels, states).abs(),
        "B": normal(groups, batch, states, length),
        "C": normal(groups, batch, states, length),
        "D": normal(groups, channels),
        "z": normal(groups, batch, channels, length),
        "delta_bias": normal(groups, channels),
    }


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@given(
    groups=st.integers(1, 2),
    batch=st.integers(1, 2),
    channels=st.integers(1, 5),
    states=st.sampled_from([1, 3, 16, 20]),
    length=st.integers(1, 150),
    backwards=st.tuples(st.booleans(), st.booleans()),
    count=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=20)
@pytest.mark.parametrize("implementation", FAST)
def test_any_scan_is_that_of_the_loop(
    implementation: Implementation,
    groups: int,
    batch: int,
    channels: int,
    states: int,
    length: int,
    backwards: tuple[bool, bool],
    count: int,
    seed: int,
) -> None:
    inputs = example(groups, batch, channels, states, length, seed)
    flags = backwards[:groups]
    with threads(count):
        y = selective_scan(**inputs, backwards=flags, implementation=implementation)
    oracle = selective_scan(**inputs, backwards=flags, implementation="loop")
    assert y.dtype == torch.float32
    assert (y - oracle).abs().max() <= 1e-5 * max(1.0, float(oracle.abs().max()))


def test_the_loop_is_the_formula_by_hand() -> None:
    # One channel, one state, two positions.
    u, delta, b, c = (torch.tensor([x]) for x in ([[2.0, 3.0]], [[0.3, -0.4]], [[0.5, 0.7]], [[1.1, -1.3]]))
    y = selective_scan(u, delta, torch.tensor([[-0.9]]), b, c, torch.tensor([0.2]), implementation="loop")
    steps = F.softplus(delta).flatten().tolist()
    first = steps[0] * 0.5 * 2
    second = torch.tensor(-0.9 * steps[1]).exp() * first + steps[1] * 0.7 * 3
    assert torch.allclose(y.flatten(), torch.tensor([1.1 * first + 0.4, -1.3 * second + 0.6]))


@pytest.mark.parametrize("implementation", FAST)
def test_gradients_are_those_of_differences(implementation: Implementation) -> None:
    inputs = example(2, 1, 2, 17, 70, dtype=torch.float64)
    names = list(inputs)
    tensors = tuple(inputs[name].requires_grad_() for name in names)

    def scan(*values: torch.Tensor) -> torch.Tensor:
        given: dict[str, Any] = dict(zip(names, values, strict=True))
        return selective_scan(**given, backwards=(False, True), implementation=implementation)

    with threads(2):
        assert torch.autograd.gradcheck(scan, tensors, fast_mode=True)


@pytest.mark.parametrize("implementation", FAST)
def test_gradients_are_those_of_the_loop(implementation: Implementation) -> None:
    weight = torch.randn(2, 2, 3, 90, generator=torch.Generator().manual_seed(1))
    gradients = []
    for name in (implementation, "loop"):
        inputs: dict[str, Any] = {key: value.requires_grad_() for key, value in example(length=90).items()}
        y = selective_scan(**inputs, backwards=(True, False), implementation=name)
        gradients.append(torch.autograd.grad((y * weight).sum(), list(inputs.values())))
        # The compiled scan takes another way where no gradient is wanted.
        with torch.no_grad():
            assert torch.allclose(y, selective_scan(**inputs, backwards=(True, False), implementation=name), atol=1e-5)
    for ours, plain in zip(*gradients, strict=True):
        assert (ours - plain).abs().max() <= 1e-5 * max(1.0, float(plain.abs().max()))


@pytest.mark.parametrize("implementation", FAST)
def test_long_sequences_and_wide_ranges_stay_right(implementation: Implementation) -> None:
    inputs = example(1, 1, 2, 16, 3000)
    inputs["delta"] *= 8  # Steps from 1e-11 to 30: some states never forget, some forget at once.
    inputs["A"] *= 30
    y = selective_scan(**inputs, implementation=implementation)
    oracle = selective_scan(**{name: value.double() for name, value in inputs.items()}, implementation="loop")
    assert torch.isfinite(y).all()
    assert (y - oracle).abs().max() <= 1e-5 * float(oracle.abs().max())


@pytest.mark.parametrize("implementation", ("loop", *FAST))
def test_backwards_is_forwards_on_what_is_turned_around(implementation: Implementation) -> None:
    inputs = example(1)
    turned = {
        name: value.flip(-1) if name in ("u", "delta", "B", "C", "z") else value for name, value in inputs.items()
    }
    y = selective_scan(**inputs, backwards=True, implementation=implementation)
    assert torch.allclose(y.flip(-1), selective_scan(**turned, implementation=implementation), atol=1e-6)


def test_groups_and_sequences_do_not_touch_each_other() -> None:
    inputs = example()
    both = selective_scan(**inputs, backwards=(False, True))
    for group, turn in enumerate((False, True)):
        alone = {name: value[group] for name, value in inputs.items()}
        assert torch.allclose(both[group], selective_scan(**alone, backwards=turn), atol=1e-6)
        first = {name: v[:1] if v.dim() == 3 and name != "A" else v for name, v in alone.items()}
        assert torch.allclose(both[group, :1], selective_scan(**first, backwards=turn), atol=1e-6)


def test_half_precision_is_computed_in_single() -> None:
    inputs = example()
    low = {name: value.bfloat16() for name, value in inputs.items()}
    y = selective_scan(**low)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, selective_scan(**{name: value.float() for name, value in low.items()}).bfloat16())


def test_the_compiled_scan_is_chosen_on_a_cpu_and_the_blocked_one_without_numba(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert available()[:3] == ("loop", "blocked", "compiled")
    inputs = example()
    assert torch.equal(selective_scan(**inputs), selective_scan(**inputs, implementation="compiled"))
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "numba" else find(name))
    assert torch.equal(selective_scan(**inputs), selective_scan(**inputs, implementation="blocked"))
    with pytest.raises(DependencyError, match=r"loop, blocked.* can"):
        selective_scan(**inputs, implementation="compiled")


def test_mamba_ssm_is_given_what_its_kernel_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    # A stand-in with the kernel's signature and checks; the kernel itself needs a GPU.
    def selective_scan_fn(
        u: torch.Tensor, delta: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor
    ) -> torch.Tensor:
        assert all(x.is_contiguous() and x.dtype == torch.float32 for x in (u, delta, A, B, C))
        assert (u.dim(), A.dim(), B.dim()) == (3, 2, 3)
        before_softplus = delta + torch.log(-torch.expm1(-delta))
        return selective_scan(u, before_softplus, A, B, C, implementation="loop")

    module = ModuleType("mamba_ssm.ops.selective_scan_interface")
    module.selective_scan_fn = selective_scan_fn  # type: ignore[attr-defined]
    for name in ("mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    inputs = example()
    step = F.softplus(inputs["delta"])
    y = cuda_scan(inputs["u"], step, inputs["A"], inputs["B"], inputs["C"], (False, True))
    plain = {name: inputs[name] for name in ("u", "delta", "A", "B", "C")}
    assert torch.allclose(y, selective_scan(**plain, backwards=(False, True), implementation="loop"), atol=1e-4)


@pytest.mark.skipif("cuda" not in available(), reason="needs a GPU and mamba-ssm")
def test_the_cuda_scan_is_that_of_the_loop() -> None:
    inputs = {name: value.cuda() for name, value in example(length=300).items()}
    y = selective_scan(**inputs, backwards=(False, True), implementation="cuda")
    assert torch.allclose(y, selective_scan(**inputs, backwards=(False, True), implementation="loop"), atol=1e-4)


def test_shapes_that_do_not_go_together_are_named() -> None:
    inputs = example()
    with pytest.raises(InvalidRequestError, match=r"B has shape \(2, 2, 16, 19\); \(2, 2, 16, 20\)"):
        selective_scan(**{**inputs, "B": inputs["B"][..., 1:]})
    with pytest.raises(InvalidRequestError, match="u has shape"):
        selective_scan(**{**inputs, "u": inputs["u"][..., :0]})
    with pytest.raises(InvalidRequestError, match="3 flags for 2 groups"):
        selective_scan(**inputs, backwards=(True, False, True))
