"""The compiled recurrence behind torch: layouts, threads and the gradient.

The kernels release Python's lock; channels and sequences are shared among `torch.get_num_threads()` threads.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from perception.scan.kernels import CHUNK, LOG2_E, STATES, Array, backward_kernel, forward_kernel

WORTH_A_THREAD = 1 << 15
"""Positions times channels below which starting a second thread costs more than it saves."""


def compiled_scan(
    u: torch.Tensor,
    step: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    backwards: tuple[bool, ...],
) -> torch.Tensor:
    """The recurrence of `perception.scan.operator`; arguments and result are described there."""
    y: torch.Tensor = _Scan.apply(u, step, A, B, C, backwards)
    return y


def compiled_whole(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None,
    z: torch.Tensor | None,
    delta_bias: torch.Tensor | None,
    backwards: tuple[bool, ...],
) -> torch.Tensor:
    """The whole operator in one pass over memory, without gradients.

    Shapes are those of `selective_scan` with groups, the type of all is float32 or float64.
    """
    around = _Around(*(None if x is None else _array(x) for x in (D, z, delta_bias)))
    y, _ = _Work(u, delta, A, B, C, backwards).forward(keep=False, around=around)
    return y


@dataclass(frozen=True)
class _Around:
    """What the kernel does around the recurrence: skip D, gate z, and softplus of the raw step with its bias."""

    D: Array | None
    z: Array | None
    bias: Array | None


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        u: torch.Tensor,
        step: torch.Tensor,
        A: torch.Tensor,
        B: torch.Tensor,
        C: torch.Tensor,
        backwards: tuple[bool, ...],
    ) -> torch.Tensor:
        work = _Work(u, step, A, B, C, backwards)
        keep = any(ctx.needs_input_grad)
        y, starts = work.forward(keep, around=None)
        if keep:
            ctx.save_for_backward(u, step, A, B, C)
            ctx.starts, ctx.backwards = starts, backwards
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        u, step, A, B, C = ctx.saved_tensors
        work = _Work(u, step, A, B, C, ctx.backwards)
        return (*work.backward(dy, ctx.starts), None)


class _Work:
    """The tensors as arrays in the kernel's layout, cut into parts that threads can take."""

    def __init__(
        self,
        u: torch.Tensor,
        step: torch.Tensor,
        A: torch.Tensor,
        B: torch.Tensor,
        C: torch.Tensor,
        backwards: tuple[bool, ...],
    ) -> None:
        self.shape = u.shape
        self.n = A.shape[2]
        groups, batch, channels, _ = u.shape
        self.u, self.step = _array(u), _array(step)
        self.A = _padded(_array(A) * LOG2_E)
        # The kernel reads all states of a position together.
        self.B, self.C = (_padded(_array(x.transpose(-1, -2))) for x in (B, C))
        self.backwards = backwards
        self.threads = max(1, min(torch.get_num_threads(), u.numel() // WORTH_A_THREAD))
        share = -(-channels // max(1, self.threads // (groups * batch)))
        self.slices = [slice(start, min(start + share, channels)) for start in range(0, channels, share)]
        self.parts = [
            (group, sequence, number)
            for group in range(groups)
            for sequence in range(batch)
            for number in range(len(self.slices))
        ]
        self.blocks = [slice(start, start + STATES) for start in range(0, self.A.shape[-1], STATES)]

    def forward(self, keep: bool, around: _Around | None) -> tuple[torch.Tensor, list[Array]]:
        """Scan; with `around`, `self.step` is raw."""
        groups, batch, channels, length = self.shape
        chunks = -(-length // CHUNK) if keep else 0
        y = np.zeros(self.shape, self.u.dtype)
        starts = [np.empty((groups, batch, channels, chunks, STATES), self.u.dtype) for _ in self.blocks]
        zeros = np.zeros((groups, channels), self.u.dtype)
        no_gate = np.zeros((groups, batch, channels, 0), self.u.dtype)
        bias = zeros if around is None or around.bias is None else around.bias
        D = zeros if around is None or around.D is None else around.D
        z = no_gate if around is None or around.z is None else around.z

        def run(part: tuple[int, int, int]) -> None:
            group, sequence, number = part
            those = self.slices[number]
            at = (group, sequence, those)
            for index, (block, kept) in enumerate(zip(self.blocks, starts, strict=True)):
                # Skip and gate belong to the sum over all states.
                last = index == len(self.blocks) - 1
                forward_kernel(
                    self.u[at],
                    self.step[at],
                    bias[group, those],
                    np.ascontiguousarray(self.A[group, those, block]),
                    np.ascontiguousarray(self.B[group, sequence, :, block]),
                    np.ascontiguousarray(self.C[group, sequence, :, block]),
                    (D if last else zeros)[group, those],
                    (z if last else no_gate)[at],
                    y[at],
                    kept[at],
                    around is not None,
                    self.backwards[group],
                )

        _share_out(run, self.parts, self.threads)
        return torch.from_numpy(y), starts

    def backward(self, dy: torch.Tensor, starts: list[Array]) -> tuple[torch.Tensor, ...]:
        out = _array(dy)
        groups, batch, channels, length = self.shape
        kind = self.u.dtype
        du, dstep = np.zeros(self.shape, kind), np.zeros(self.shape, kind)
        # Threads that share a sequence, and sequences that share A, add into arrays of their own.
        dA = np.zeros((batch, groups, channels, len(self.blocks), STATES), kind)
        dB, dC = (np.zeros((len(self.slices), groups, batch, len(self.blocks), length, STATES), kind) for _ in range(2))

        def run(part: tuple[int, int, int]) -> None:
            group, sequence, number = part
            at = (group, sequence, self.slices[number])
            for index, (block, kept) in enumerate(zip(self.blocks, starts, strict=True)):
                backward_kernel(
                    self.u[at],
                    self.step[at],
                    np.ascontiguousarray(self.A[group, self.slices[number], block]),
                    np.ascontiguousarray(self.B[group, sequence, :, block]),
                    np.ascontiguousarray(self.C[group, sequence, :, block]),
                    kept[at],
                    out[at],
                    du[at],
                    dstep[at],
                    dA[sequence, group, self.slices[number], index],
                    dB[number, group, sequence, index],
                    dC[number, group, sequence, index],
                    self.backwards[group],
                )

        _share_out(run, self.parts, self.threads)
        weights = (
            np.moveaxis(x.sum(axis=0), -1, -2).reshape(groups, batch, -1, length)[:, :, : self.n] for x in (dB, dC)
        )
        dA_all = dA.sum(axis=0).reshape(groups, channels, -1)[..., : self.n]
        return tuple(torch.from_numpy(np.ascontiguousarray(x)) for x in (du, dstep, dA_all, *weights))


def _array(x: torch.Tensor) -> Array:
    array: Array = x.detach().contiguous().numpy()
    return array


def _padded(x: Array) -> Array:
    """States (..., n) filled up with zeros to a multiple of STATES; they stay 0 and add nothing."""
    missing = -x.shape[-1] % STATES
    return np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)]) if missing else x


def _share_out(run: Callable[[tuple[int, int, int]], None], parts: list[tuple[int, int, int]], threads: int) -> None:
    threads = min(threads, len(parts))
    if threads <= 1:
        for part in parts:
            run(part)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, parts))
