"""The recurrence in about 3 sqrt(L) tensor operations, for devices without a kernel.

The sequence is cut into chunks that are scanned side by side from a zero state; then the true states at their starts
are chained; then what those states contribute is added. Nothing is divided and every exponent is at most 0, so
nothing over- or underflows. The state in memory is one per chunk, not one per position.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F


def blocked_scan(
    u: torch.Tensor,
    step: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    backwards: tuple[bool, ...],
) -> torch.Tensor:
    """The recurrence of `perception.scan.operator`; arguments and result are described there."""
    from perception.scan.operator import flipped

    length = u.shape[-1]
    chunk = math.isqrt(length - 1) + 1
    chunks = -(-length // chunk)

    def cut(x: torch.Tensor) -> torch.Tensor:
        """(g, b, x, l) to (position in the chunk, g, b, x, chunk); a step of 0 leaves a state as it is."""
        padded = F.pad(flipped(x, backwards), (0, chunk * chunks - length))
        pieces: torch.Tensor = padded.unflatten(-1, (chunks, chunk))
        return pieces.movedim(-1, 0).contiguous()

    steps, drives, inputs, outputs = cut(step), cut(step * u), cut(B), cut(C)
    rates = A[:, None, :, :, None]  # (g, 1, e, n, 1)

    # Every chunk from a zero state.
    h = torch.zeros(*u.shape[:3], A.shape[2], chunks, dtype=u.dtype, device=u.device)  # (g, b, e, n, chunk)
    from_zero = []
    for j in range(chunk):
        h = torch.exp(steps[j, :, :, :, None] * rates) * h + drives[j, :, :, :, None] * inputs[j, :, :, None]
        from_zero.append((h * outputs[j, :, :, None]).sum(dim=3))

    # The state with which each chunk truly starts.
    elapsed = steps.cumsum(dim=0)
    whole = torch.exp(elapsed[-1, :, :, :, None] * rates)
    state = torch.zeros_like(h[..., 0])
    starts = []
    for k in range(chunks):
        starts.append(state)
        state = whole[..., k] * state + h[..., k]
    start = torch.stack(starts, dim=-1)

    # What that state still gives at each position.
    y = []
    for j in range(chunk):
        carried = torch.exp(elapsed[j, :, :, :, None] * rates) * start
        y.append(from_zero[j] + (carried * outputs[j, :, :, None]).sum(dim=3))
    joined = torch.stack(y, dim=-1).flatten(-2)[..., :length]
    return flipped(joined, backwards)
