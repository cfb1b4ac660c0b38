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
from dataclasses import dataclass
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
# log(1 + w) / w interpolated between 0 and 1, right to 1e-7.
_Q0, _Q1, _Q2, _Q3, _Q4, _Q5, _Q6, _Q7, _Q8 = (
    np.polynomial.Chebyshev.interpolate(lambda w: np.log1p(w) / w, 8, domain=[0, 1])
    .convert(kind=np.polynomial.Polynomial)
    .coef
).astype(np.float32)
_ZERO, _LOG2_E_SINGLE = np.float32(0), np.float32(_LOG2_E)
# Sums in another order would break these roundings, so `reassoc` is not among the flags; in the kernels it is.
_ORDERED = {"contract", "nnan", "ninf", "nsz"}

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


@overload(_exp2, jit_options={"fastmath": _ORDERED}, inline="never")
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


def _softplus(x: Any) -> Any:
    """log(1 + exp(x)); the body depends on the type, see below."""
    raise NotImplementedError


@overload(_softplus, jit_options={"fastmath": _ORDERED}, inline="never")
def _softplus_of_type(x: Any) -> Any:
    if x == types.float32:

        def single(x: Any) -> Any:
            w = _exp2(-abs(x) * _LOG2_E_SINGLE)
            q = ((((((((_Q8 * w + _Q7) * w + _Q6) * w + _Q5) * w + _Q4) * w + _Q3) * w + _Q2) * w) + _Q1) * w + _Q0
            return max(x, _ZERO) + w * q

        return single

    def double(x: Any) -> Any:
        return max(x, 0.0) + math.log1p(math.exp(-abs(x)))

    return double


def _forward(
    u: Array,
    delta: Array,
    bias: Array,
    A: Array,
    B: Array,
    C: Array,
    D: Array,
    z: Array,
    y: Array,
    starts: Array,
    raw: bool,
    backwards: bool,
) -> None:
    """Scan some channels of one sequence.

    Args:
        u: (e, l).
        delta: (e, l), time steps, or what softplus makes them of.
        bias: (e,), added to `delta` if it is raw.
        A: (e, STATES), times log2(e).
        B: (l, STATES).
        C: (l, STATES).
        D: (e,), weights of the skip.
        z: (e, l), the gate, or (e, 0) for none.
        y: (e, l), what is there already takes part in skip and gate.
        starts: (e, chunks, STATES) for the states at the start of each chunk, or (e, 0, STATES) to keep none.
        raw: whether softplus is still to be taken.
        backwards: from the last position to the first.
    """
    channels, length = u.shape
    keep, gated = starts.shape[1] > 0, z.shape[1] > 0
    h = np.zeros(STATES, u.dtype)
    a = np.zeros(STATES, u.dtype)
    steps = np.zeros(CHUNK, u.dtype)
    gates = np.ones(CHUNK, u.dtype)
    zero, one, log2_e = u.dtype.type(0), u.dtype.type(1), u.dtype.type(_LOG2_E)
    for e in range(channels):
        for n in range(STATES):
            h[n] = 0
            a[n] = A[e, n]
        for chunk in range((length + CHUNK - 1) // CHUNK):
            if keep:
                for n in range(STATES):
                    starts[e, chunk, n] = h[n]
            count = min(CHUNK, length - chunk * CHUNK)
            low = length - chunk * CHUNK - count if backwards else chunk * CHUNK
            # Unsigned indices, or every access would test for an index from the end.
            low = np.uintp(low)
            for j in range(count):
                steps[j] = delta[e, low + np.uintp(j)]
            if raw:
                for j in range(count):
                    steps[j] = _softplus(steps[j] + bias[e])
            if gated:
                for j in range(count):
                    gates[j] = z[e, low + np.uintp(j)]
                for j in range(count):
                    # SiLU without a branch: z * sigmoid(z) = max(z, 0) - |z| * sigmoid(-|z|).
                    size = abs(gates[j])
                    fall = _exp2(-size * log2_e)
                    gates[j] = max(gates[j], zero) - size * fall / (one + fall)
            for t in range(count):
                j = np.uintp(count - 1 - t if backwards else t)
                i = low + j
                dt = steps[j]
                drive = dt * u[e, i]
                total = y[e, i] + D[e] * u[e, i]
                for n in range(STATES):
                    state = _exp2(dt * a[n]) * h[n] + drive * B[i, n]
                    h[n] = state
                    total += state * C[i, n]
                y[e, i] = total * gates[j]


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
    # Python's error model would test every division for 0, which keeps loops from being vectorised.
    options = {"nogil": True, "fastmath": True, "error_model": "numpy"}
    try:
        compiled: Callable[..., None] = numba.njit(cache=True, **options)(function)
    except RuntimeError:
        # Nowhere to keep what was compiled: neither beside this file nor in the user's cache folder.
        compiled = numba.njit(**options)(function)
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
                _forward_kernel(
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
