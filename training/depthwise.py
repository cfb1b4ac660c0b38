"""Depthwise convolutions whose weights learn quickly on a CPU.

torch computes the gradient of a depthwise convolution's weights some ten times slower than its output, thirty times in
bfloat16, so that these few weights took two thirds of a training step. It is a short sum of products, written out here.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

Array = npt.NDArray[np.float32]


@numba.njit(cache=True, fastmath=True, nogil=True)
def _correlate(padded: Array, gradient: Array, out: Array) -> None:
    """Add to out (k, k, c) gradient (n, h, w, c) times each shift of padded (n, h + k - 1, w + k - 1, c)."""
    kernel = out.shape[0]
    count, height, width, channels = gradient.shape
    for n in range(count):
        for row in range(height):
            for u in range(kernel):
                for v in range(kernel):
                    total = out[u, v]
                    for column in range(width):
                        a = gradient[n, row, column]
                        b = padded[n, row + u, column + v]
                        for c in range(channels):
                            total[c] += a[c] * b[c]


def weight_gradient(x: torch.Tensor, gradient: torch.Tensor, kernel: int) -> torch.Tensor:
    """How a loss changes with the weights of a depthwise convolution of stride 1 that keeps the size.

    Args:
        x: (n, c, h, w), the convolution's input.
        gradient: of that shape, of the loss by the output.
        kernel: odd side of the kernels.

    Returns:
        (c, 1, kernel, kernel), float32.
    """
    reach = kernel // 2
    rows = F.pad(x.detach().permute(0, 2, 3, 1).float(), (0, 0, reach, reach, reach, reach)).contiguous()
    by_output = gradient.permute(0, 2, 3, 1).float().contiguous()
    out = np.zeros((kernel, kernel, x.shape[1]), np.float32)
    _correlate(rows.numpy(), by_output.numpy(), out)
    return torch.from_numpy(out).permute(2, 0, 1)[:, None].contiguous()


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0]
        # A correlation's gradient by its input is the correlation with the kernel turned by half a circle.
        by_input = F.conv2d(gradient, weight.flip(2, 3), padding=weight.shape[-1] // 2, groups=len(weight))
        by_weight = weight_gradient(x, gradient, weight.shape[-1]).to(weight) if ctx.needs_input_grad[1] else None
        by_bias = gradient.sum(dim=(0, 2, 3), dtype=torch.float32).to(weight) if ctx.biased else None
        return by_input if ctx.needs_input_grad[0] else None, by_weight, by_bias


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution of stride 1 that keeps the size, with the gradient above; it obeys autocast."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(n, c, h, w) to (n, c, h, w)."""
        weight, bias = self.weight, self.bias
        if torch.is_autocast_enabled("cpu"):
            kind = torch.get_autocast_dtype("cpu")
            input, weight = input.to(kind), weight.to(kind)
            bias = None if bias is None else bias.to(kind)
        out: torch.Tensor = _Depthwise.apply(input, weight, bias)
        return out


def learn_quickly(net: nn.Module) -> None:
    """Turn the network's depthwise convolutions of stride 1 into such, in place; parameters and names stay."""
    for module in net.modules():
        if type(module) is nn.Conv2d and 1 < module.groups == module.in_channels == module.out_channels:
            side = module.kernel_size[0]
            if module.stride == (1, 1) and module.kernel_size == (side, side) and module.padding == (side // 2,) * 2:
                module.__class__ = DepthwiseConv2d
