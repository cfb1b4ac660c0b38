"""The recurrence by mamba-ssm's CUDA kernel, where that package is installed."""

from __future__ import annotations

import torch

from perception.optional import require


def cuda_scan(
    u: torch.Tensor,
    step: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    backwards: tuple[bool, ...],
) -> torch.Tensor:
    """The recurrence of `perception.scan.operator`; arguments and result are described there.

    The kernel knows one group and one direction, and float32 only.
    """
    from perception.scan.operator import flipped

    kernel = require("mamba_ssm.ops.selective_scan_interface", "gpu").selective_scan_fn
    # The kernel does not follow strides of every kind, so it gets plain memory.
    turned = [flipped(x, backwards).float().contiguous() for x in (u, step, B, C)]
    groups = [kernel(x, dt, rates, b, c) for x, dt, b, c, rates in zip(*turned, A.float().contiguous(), strict=True)]
    return flipped(torch.stack(groups).to(u.dtype), backwards)
