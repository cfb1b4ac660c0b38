"""The recurrence and its gradient as compiled loops for CPUs (numba).

The state of one channel (16 numbers) stays in registers while the loop walks along the sequence, so memory is read
and written once and nothing of size L * E * N exists. Gradients need the states again: every `CHUNK` positions one is
kept, and the backward pass recomputes a chunk at a time.

The decay exp(step * A) is most of the work. Numba calls the C library for each exponential unless Intel's library is
installed, so float32 has one here that vectorises: 2**y by splitting y into an integer, which is added to the exponent
bits, and a fraction in [-1/2, 1/2], for which a polynomial of degree 5 is right to 1e-7.

Loops release Python's lock; channels and sequences are shared among `torch.get_num_threads()` threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload
from torch.autograd.function import once_differentiable

STATES = 16
"""States that the kernel holds; fewer are filled up with zeros, more are scanned sixteen at a time and added."""
CHUNK = 64
"""Positions between two kept states."""
WORTH_A_THREAD = 1 << 15
"""Positions times channels below which starting a second thread costs more than it saves."""

_LOG2_E = 1 / math.log(2)
_LN2 = math.log(2)
_LOWEST = np.float32(-125)
# 2**f interpolated at Chebyshev's points.
_P0, _P1, _P2, _P3, _P4, _P5 = (
    np.polynomial.Chebyshev.interpolate(np.exp2, 5, domain=[-0.5, 0.5]).convert(kind=np.polynomial.Polynomial).coef
).astype(np.float32)
_HALF, _MANTISSA = np.float32(0.5), np.int32(23)

Array = npt.NDArray[Any]


@intrinsic
def _raise_exponent(typing_context: Any, value: Any, by: Any) -> Any:
    """A positive float32 times a power of two, given as the int32 to add to its bits."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = builder.add(builder.bitcast(arguments[0], ir.IntType(32)), arguments[1])
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(types.float32, types.int32), code


def _exp2(y: Any) -> Any:
    """2**y for y <= 0; the body depends on the type, see below."""
    raise NotImplementedError


# Reordered sums would break the rounding, so `reassoc` is not among the flags here; in the kernels it is.
@overload(_exp2, jit_options={"fastmath": {"contract", "nnan", "ninf", "nsz"}}, inline="never")
def _exp2_of_type(y: Any) -> Any:
    if y == types.float32:

        def single(y: Any) -> Any:
            y = max(y, _LOWEST)
            whole = np.int32(y - _HALF)  # Truncation is upwards here: this rounds to the nearest.
            f = y - np.float32(whole)
            p = ((((_P5 * f + _P4) * f + _P3) * f + _P2) * f + _P1) * f + _P0
            return _raise_exponent(p, whole << _MANTISSA)  # type: ignore[call-arg]  # the context is numba's

        return single

    def double(y: Any) -> Any:
        return math.exp(y * _LN2)

    return double


def _forward(u: Array, step: Array, A: Array, B: Array, C: Array, y: Array, starts: Array, backwards: bool) -> None:
    """Scan some channels of one sequence.

    Args:
        u: (e, l).
        step: (e, l).
        A: (e, STATES), times log2(e).
        B: (l, STATES).
        C: (l, STATES).
        y: (e, l), added to.
        starts: (e, chunks, STATES) for the states at the start of each chunk, or (e, 0, STATES) to keep none.
        backwards: from the last position to the first.
    """
    channels, length = u.shape
    keep = starts.shape[1] > 0
    first, stride = (length - 1, -1) if backwards else (0, 1)
    h = np.zeros(STATES, u.dtype)
    a = np.zeros(STATES, u.dtype)
    for e in range(channels):
        for n in range(STATES):
            h[n] = 0
            a[n] = A[e, n]
        for chunk in range((length + CHUNK - 1) // CHUNK):
            if keep:
                for n in range(STATES):
                    starts[e, chunk, n] = h[n]
            for t in range(chunk * CHUNK, min(chunk * CHUNK + CHUNK, length)):
                i = np.uintp(first + stride * t)  # Unsigned, or every access would test for an index from the end.
                dt = step[e, i]
                drive = dt * u[e, i]
                total = u.dtype.type(0)
                for n in range(STATES):
                    state = _exp2(dt * a[n]) * h[n] + drive * B[i, n]
                    h[n] = state
                    total += state * C[i, n]
                y[e, i] += total


def _backward(
    u: Array,
    step: Array,
    A: Array,
    B: Array,
    C: Array,
    starts: Array,
    dy: Array,
    du: Array,
    dstep: Array,
    dA: Array,
    dB: Array,
    dC: Array,
    backwards: bool,
) -> None:
    """Gradients of `_forward`, added to du, dstep (e, l), dA (e, STATES), dB and dC (l, STATES)."""
    channels, length = u.shape
    first, stride = (length - 1, -1) if backwards else (0, 1)
    decay = np.zeros((CHUNK, STATES), u.dtype)
    states = np.zeros((CHUNK + 1, STATES), u.dtype)
    a = np.zeros(STATES, u.dtype)
    slope = np.zeros(STATES, u.dtype)
    gradient = np.zeros((channels, STATES), u.dtype)  # of the loss by the state that the next chunk starts with
    g = np.zeros(STATES, u.dtype)
    ln2 = u.dtype.type(_LN2)
    for chunk in range(starts.shape[1] - 1, -1, -1):
        t0 = chunk * CHUNK
        t1 = min(t0 + CHUNK, length)
        for e in range(channels):
            for n in range(STATES):
                a[n] = A[e, n]
                g[n] = gradient[e, n]
                slope[n] = 0
                states[0, n] = starts[e, chunk, n]
            for t in range(t0, t1):
                i = np.uintp(first + stride * t)
                j, following = np.uintp(t - t0), np.uintp(t - t0 + 1)
                dt = step[e, i]
                drive = dt * u[e, i]
                for n in range(STATES):
                    fall = _exp2(dt * a[n])
                    decay[j, n] = fall
                    states[following, n] = fall * states[j, n] + drive * B[i, n]
            for t in range(t1 - 1, t0 - 1, -1):
                i = np.uintp(first + stride * t)
                j, following = np.uintp(t - t0), np.uintp(t - t0 + 1)
                dt = step[e, i]
                drive = dt * u[e, i]
                out = dy[e, i]
                by_drive = u.dtype.type(0)
                by_decay = u.dtype.type(0)
                for n in range(STATES):
                    dC[i, n] += out * states[following, n]
                    here = g[n] + out * C[i, n]
                    by_drive += here * B[i, n]
                    dB[i, n] += here * drive
                    back = here * decay[j, n]
                    g[n] = back
                    flow = back * states[j, n]
                    by_decay += flow * a[n]
                    slope[n] += flow * dt
                du[e, i] += dt * by_drive
                dstep[e, i] += u[e, i] * by_drive + ln2 * by_decay
            for n in range(STATES):
                gradient[e, n] = g[n]
                dA[e, n] += slope[n]


def _compile(function: Callable[..., None]) -> Callable[..., None]:
    try:
        compiled: Callable[..., None] = numba.njit(nogil=True, fastmath=True, cache=True)(function)
    except RuntimeError:
        # Nowhere to keep what was compiled: neither beside this file nor in the user's cache folder.
        compiled = numba.njit(nogil=True, fastmath=True)(function)
    return compiled


_forward_kernel = _compile(_forward)
_backward_kernel = _compile(_backward)


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
        y, starts = work.forward(keep)
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
        self.A = _padded(_array(A) * _LOG2_E)
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

    def forward(self, keep: bool) -> tuple[torch.Tensor, list[Array]]:
        groups, batch, channels, length = self.shape
        chunks = -(-length // CHUNK) if keep else 0
        y = np.zeros(self.shape, self.u.dtype)
        starts = [np.empty((groups, batch, channels, chunks, STATES), self.u.dtype) for _ in self.blocks]

        def run(part: tuple[int, int, int]) -> None:
            group, sequence, number = part
            at = (group, sequence, self.slices[number])
            for block, kept in zip(self.blocks, starts, strict=True):
                _forward_kernel(
                    self.u[at],
                    self.step[at],
                    np.ascontiguousarray(self.A[group, self.slices[number], block]),
                    np.ascontiguousarray(self.B[group, sequence, :, block]),
                    np.ascontiguousarray(self.C[group, sequence, :, block]),
                    y[at],
                    kept[at],
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
                _backward_kernel(
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
