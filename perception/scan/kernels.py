"""Loops for CPUs, compiled by numba: the recurrence and its gradient for some channels of one sequence.

The state of one channel (16 numbers) stays in registers while a loop walks along the sequence, so memory is read and
written once and nothing of size L * E * N exists. Gradients need the states again: every `CHUNK` positions one is
kept, and the backward pass recomputes a chunk at a time.

The decay exp(step * A) is most of the work. Numba calls the C library for each exponential unless Intel's library is
installed, so float32 has one here that vectorises: 2**y by splitting y into an integer, which is added to the exponent
bits, and a fraction in [-1/2, 1/2], for which a polynomial of degree 5 is right to 1e-7.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload
from numba.np.arrayobj import make_array

STATES = 16
"""States that the kernel holds; fewer are filled up with zeros, more are scanned sixteen at a time and added."""
CHUNK = 64
"""Positions between two kept states."""

LOG2_E = 1 / math.log(2)
"""Decay rates are multiplied by this before they are given to a kernel."""
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
_ZERO, _LOG2_E_SINGLE = np.float32(0), np.float32(LOG2_E)
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
    zero, one, log2_e = u.dtype.type(0), u.dtype.type(1), u.dtype.type(LOG2_E)
    for e in range(channels):
        for n in range(STATES):
            h[n] = 0
            a[n] = A[e, n]
        for chunk in range((length + CHUNK - 1) // CHUNK):
            if keep:
                for n in range(STATES):
                    starts[e, chunk, n] = h[n]
            count = min(CHUNK, length - chunk * CHUNK)
            # Unsigned indices, or every access would test for an index from the end.
            low = np.uintp(length - chunk * CHUNK - count if backwards else chunk * CHUNK)
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
                k = np.uintp(count - 1 - t if backwards else t)
                i = low + k
                dt = steps[k]
                drive = dt * u[e, i]
                total = y[e, i] + D[e] * u[e, i]
                for n in range(STATES):
                    state = _exp2(dt * a[n]) * h[n] + drive * B[i, n]
                    h[n] = state
                    total += state * C[i, n]
                y[e, i] = total * gates[k]


_RATE, _GRADIENT, _SLOPE = 0, 1, 2
"""Rows of what the backward pass carries along for one channel, see `_adjoint_row`."""


@intrinsic
def _adjoint_row(
    typing_context: Any,
    dB: Any,
    dC: Any,
    B: Any,
    C: Any,
    i: Any,
    states: Any,
    decay: Any,
    j: Any,
    lanes: Any,
    out: Any,
    drive: Any,
    dt: Any,
) -> Any:
    """One position of the backward pass for all states of a channel, in vector instructions.

    With so many arrays the compiler cannot tell that none overlaps another, and would take one state at a time. In
    Python's words, for every n at once:

        here = lanes[GRADIENT] + out * C[i];      dC[i] += out * states[j + 1];    dB[i] += here * drive
        back = here * decay[j];                   flow = back * states[j]
        lanes[GRADIENT] = back;                   lanes[SLOPE] += flow * dt
        return (here * B[i]).sum(), (flow * lanes[RATE]).sum()
    """
    number = lanes.dtype
    signature = types.UniTuple(number, 2)(dB, dC, B, C, i, states, decay, j, lanes, number, number, number)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        scalar = context.get_value_type(number)
        vector, index = ir.VectorType(scalar, STATES), ir.IntType(64)
        *_, out, drive, dt = arguments
        position, here_in_chunk = arguments[4], arguments[7]

        def row(argument: int, at: Any) -> Any:
            kind = signature.args[argument]
            array = make_array(kind)(context, builder, arguments[argument])
            place = cgutils.get_item_pointer(context, builder, kind, array, [at, index(0)], wraparound=False)
            return builder.bitcast(place, vector.as_pointer())

        def load(place: Any) -> Any:
            return builder.load(place, align=number.bitwidth // 8)

        def store(value: Any, place: Any) -> None:
            builder.store(value, place, align=number.bitwidth // 8)

        def times(x: Any, y: Any) -> Any:
            return builder.fmul(x, y, flags=("fast",))

        def plus(x: Any, y: Any) -> Any:
            return builder.fadd(x, y, flags=("fast",))

        def all_lanes(value: Any) -> Any:
            first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), STATES), [0] * STATES)
            return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)

        def total(value: Any) -> Any:
            width = STATES
            while width > 1:
                width //= 2
                halves = [
                    builder.shuffle_vector(
                        value,
                        value,
                        ir.Constant(ir.VectorType(ir.IntType(32), width), list(range(start, start + width))),
                    )
                    for start in (0, width)
                ]
                value = plus(*halves)
            return builder.extract_element(value, ir.IntType(32)(0))

        to_dB, to_dC = row(0, position), row(1, position)
        to_gradient, to_slope = row(8, index(_GRADIENT)), row(8, index(_SLOPE))
        before, after = row(5, here_in_chunk), row(5, builder.add(here_in_chunk, index(1)))

        here = plus(load(to_gradient), times(all_lanes(out), load(row(3, position))))
        back = times(here, load(row(6, here_in_chunk)))
        flow = times(back, load(before))
        by_drive = total(times(here, load(row(2, position))))
        by_decay = total(times(flow, load(row(8, index(_RATE)))))
        store(plus(load(to_dC), times(all_lanes(out), load(after))), to_dC)
        store(plus(load(to_dB), times(here, all_lanes(drive))), to_dB)
        store(plus(load(to_slope), times(flow, all_lanes(dt))), to_slope)
        store(back, to_gradient)
        return context.make_tuple(builder, signature.return_type, [by_drive, by_decay])

    return signature, code


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
    flat = decay.ravel()
    states = np.zeros((CHUNK + 1, STATES), u.dtype)
    lanes = np.zeros((3, STATES), u.dtype)
    gradient = np.zeros((channels, STATES), u.dtype)  # of the loss by the state that the next chunk starts with
    ln2 = u.dtype.type(_LN2)
    for chunk in range(starts.shape[1] - 1, -1, -1):
        t0 = chunk * CHUNK
        t1 = min(t0 + CHUNK, length)
        for e in range(channels):
            for n in range(STATES):
                lanes[_RATE, n] = A[e, n]
                lanes[_GRADIENT, n] = gradient[e, n]
                lanes[_SLOPE, n] = 0
                states[0, n] = starts[e, chunk, n]
            for t in range(t0, t1):
                i, j = np.uintp(first + stride * t), np.uintp(t - t0)
                for n in range(STATES):
                    decay[j, n] = step[e, i] * lanes[_RATE, n]
            # In one long loop over one array, which the compiler vectorises for sure.
            for m in range(CHUNK * STATES):
                flat[m] = _exp2(flat[m])
            for t in range(t0, t1):
                i = np.uintp(first + stride * t)
                j, following = np.uintp(t - t0), np.uintp(t - t0 + 1)
                drive = step[e, i] * u[e, i]
                for n in range(STATES):
                    states[following, n] = decay[j, n] * states[j, n] + drive * B[i, n]
            for t in range(t1 - 1, t0 - 1, -1):
                i = np.uintp(first + stride * t)
                j, following = np.uintp(t - t0), np.uintp(t - t0 + 1)
                dt = step[e, i]
                drive = dt * u[e, i]
                out = dy[e, i]
                # Numba gives the first argument, the typing context.
                sums: Any = _adjoint_row(dB, dC, B, C, i, states, decay, j, lanes, out, drive, dt)  # type: ignore[call-arg]
                by_drive, by_decay = sums
                du[e, i] += dt * by_drive
                dstep[e, i] += u[e, i] * by_drive + ln2 * by_decay
            for n in range(STATES):
                gradient[e, n] = lanes[_GRADIENT, n]
                dA[e, n] += lanes[_SLOPE, n]


def _compile(function: Callable[..., None]) -> Callable[..., None]:
    # Python's error model would test every division for 0, which keeps loops from being vectorised.
    options: dict[str, Any] = {"nogil": True, "fastmath": True, "error_model": "numpy"}
    try:
        compiled: Callable[..., None] = numba.njit(cache=True, **options)(function)
    except RuntimeError:
        # Nowhere to keep what was compiled: neither beside this file nor in the user's cache folder.
        compiled = numba.njit(**options)(function)
    return compiled


forward_kernel = _compile(_forward)
backward_kernel = _compile(_backward)
