"""The recurrence as it is written, one position after the other: slow, plain, the measure of the others."""

from __future__ import annotations

import torch


def loop_scan(
    u: torch.Tensor,
    step: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    backwards: tuple[bool, ...],
) -> torch.Tensor:
    """The recurrence of `perception.scan.operator`; arguments and result are described there."""
    groups = []
    for group, turn in enumerate(backwards):
        h = torch.zeros(*u.shape[1:3], A.shape[2], dtype=u.dtype, device=u.device)  # (b, e, n)
        positions = range(u.shape[-1])
        outputs = {}
        for t in reversed(positions) if turn else positions:
            decay = torch.exp(step[group, :, :, t, None] * A[group])
            drive = (step * u)[group, :, :, t, None] * B[group, :, None, :, t]
            h = decay * h + drive
            outputs[t] = (h * C[group, :, None, :, t]).sum(dim=-1)
        groups.append(torch.stack([outputs[t] for t in positions], dim=-1))
    return torch.stack(groups)
