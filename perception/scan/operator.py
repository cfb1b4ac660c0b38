"""The one call, and the choice between its implementations.

An implementation computes only the recurrence; softplus, the skip D and the gate z are the same for all. Each takes

    u (g, b, e, l), step (g, b, e, l) positive, A (g, e, n) not positive, B and C (g, b, n, l), backwards: g flags

and returns (g, b, e, l), differentiable in the five tensors.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F

from earthgen.errors import InvalidRequestError
from perception.errors import DependencyError
from perception.scan.blocked import blocked_scan
from perception.scan.loop import loop_scan

Implementation = Literal["loop", "blocked", "compiled", "cuda"]
Recurrence = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, tuple[bool, ...]], torch.Tensor
]


def available() -> tuple[Implementation, ...]:
    """Implementations that this machine can run, slowest first."""
    names: list[Implementation] = ["loop", "blocked"]
    if importlib.util.find_spec("numba") is not None:
        names.append("compiled")
    if torch.cuda.is_available() and importlib.util.find_spec("mamba_ssm") is not None:
        names.append("cuda")
    return tuple(names)


def selective_scan(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None = None,
    *,
    z: torch.Tensor | None = None,
    delta_bias: torch.Tensor | None = None,
    backwards: bool | Sequence[bool] = False,
    implementation: Implementation | None = None,
) -> torch.Tensor:
    """Scan a sequence, or groups of sequences at once.

    All arithmetic is float32, or float64 where `u` is; the result has the type of `u`. Shapes below are with groups;
    without, leave out g everywhere.

    Args:
        u: input (g, b, e, l).
        delta: time step before bias and softplus, (g, b, e, l).
        A: decay rates (g, e, n), not positive.
        B: input weights (g, b, n, l).
        C: output weights (g, b, n, l).
        D: skip weights (g, e).
        z: gate (g, b, e, l).
        delta_bias: (g, e).
        backwards: whether a group is scanned from its last position to its first, one flag for all or one for each;
            inputs and outputs stay in their order.
        implementation: None takes the fastest one for the device of `u`: mamba-ssm's kernel on CUDA, the compiled
            one on a CPU, and the blocked one where those are not installed.

    Returns:
        (g, b, e, l).

    Raises:
        InvalidRequestError: shapes do not go together.
        DependencyError: the implementation asked for is not installed or cannot run on this device.
    """
    grouped = u.dim() == 4
    if not grouped:
        u, delta, A, B, C = (x[None] for x in (u, delta, A, B, C))
        D, z, delta_bias = (x if x is None else x[None] for x in (D, z, delta_bias))
    _check(u, delta, A, B, C, D, z, delta_bias)
    flags = (backwards,) * len(u) if isinstance(backwards, bool) else tuple(map(bool, backwards))
    if len(flags) != len(u):
        raise InvalidRequestError(f"backwards has {len(flags)} flags for {len(u)} groups; one for each is needed")

    kind = torch.float64 if u.dtype == torch.float64 else torch.float32
    u_kind, raw, A, B, C = (x.to(kind) for x in (u, delta, A, B, C))
    D, z, delta_bias = (x if x is None else x.to(kind) for x in (D, z, delta_bias))
    scan = recurrence(implementation, u.device)
    if scan.__name__ == "compiled_scan" and not _wants_gradients(u_kind, raw, A, B, C, D, z, delta_bias):
        from perception.scan.compiled import compiled_whole

        y = compiled_whole(u_kind, raw, A, B, C, D, z, delta_bias, flags).to(u.dtype)
        return y if grouped else y[0]

    if delta_bias is not None:
        raw = raw + delta_bias[:, None, :, None]
    y = scan(u_kind, F.softplus(raw), A, B, C, flags)
    if D is not None:
        y = y.addcmul_(u_kind, D[:, None, :, None])
    if z is not None:
        y = y * F.silu(z)
    y = y.to(u.dtype)
    return y if grouped else y[0]


def _check(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None,
    z: torch.Tensor | None,
    delta_bias: torch.Tensor | None,
) -> None:
    if u.dim() != 4 or A.dim() != 3 or 0 in u.shape:
        raise InvalidRequestError(
            f"u has shape {tuple(u.shape)} and A {tuple(A.shape)};"
            " (g, b, e, l) and (g, e, n), none of them 0, are needed"
        )
    g, b, e, length = u.shape
    n = A.shape[2]
    wanted = {
        "delta": (delta, (g, b, e, length)),
        "A": (A, (g, e, n)),
        "B": (B, (g, b, n, length)),
        "C": (C, (g, b, n, length)),
        "D": (D, (g, e)),
        "z": (z, (g, b, e, length)),
        "delta_bias": (delta_bias, (g, e)),
    }
    for name, (tensor, shape) in wanted.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise InvalidRequestError(f"{name} has shape {tuple(tensor.shape)}; {shape} goes with u and A")


def _wants_gradients(*tensors: torch.Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)


def recurrence(implementation: Implementation | None, device: torch.device | str = "cpu") -> Recurrence:
    """The bare recurrence of an implementation, or of the fastest one for a device.

    Raises:
        DependencyError: it is not installed or cannot run on this device.
    """
    device = torch.device(device)
    names = available()
    if implementation is None:
        fastest: Implementation = "cuda" if device.type == "cuda" else "compiled"
        implementation = fastest if fastest in names else "blocked"
    if implementation not in names:
        raise DependencyError(
            f"the scan {implementation!r} cannot run here; {', '.join(names)} can. "
            "'compiled' needs numba, 'cuda' a GPU and mamba-ssm"
        )
    if implementation == "compiled":
        if device.type != "cpu":
            raise DependencyError(f"the scan 'compiled' runs on a CPU; the tensors are on {device.type}")
        from perception.scan.compiled import compiled_scan

        return compiled_scan
    if implementation == "cuda":
        from perception.scan.cuda import cuda_scan

        return cuda_scan
    return loop_scan if implementation == "loop" else blocked_scan


def flipped(x: torch.Tensor, backwards: tuple[bool, ...]) -> torch.Tensor:
    """Turn the groups (g, ..., l) around that are scanned backwards."""
    if not any(backwards):
        return x
    return torch.stack([one.flip(-1) if turn else one for one, turn in zip(x, backwards, strict=True)])
