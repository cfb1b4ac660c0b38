"""Tone augmentation and the corruption of parents.

Children average to their parents exactly, so the root's tones reach every level; the packs have other
tones than a root, and other tones than each other. So each crop is re-graded at random, linearly, which
keeps the relation of detail to parent that the network has to learn.
"""

from __future__ import annotations

import torch

from earthgen.detail import split


def regrade(image: torch.Tensor, random: torch.Generator, haze: float = 0.3) -> torch.Tensor:
    """Vary brightness, colour cast, saturation and haze of each image.

    Args:
        image: (b, 3, h, w) in [-1, 1].
        random: source of chance.
        haze: the most that a veil of haze may cover, 0..1.

    Returns:
        (b, 3, h, w), clipped to [-1, 1].
    """
    count = image.shape[0]

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random)

    value = (image + 1.0) / 2.0
    level = value.mean(dim=(1, 2, 3), keepdim=True).clamp(min=0.02)
    # Half of the crops are pulled towards an ordinary brightness: some packs are dark raw reflectance.
    target = torch.exp(-1.05 + 0.35 * normal(count, 1, 1, 1))
    pull = (torch.rand(count, 1, 1, 1, generator=random) < 0.5).float()
    gain = torch.where(pull.bool(), (target / level).clamp(0.5, 3.0), torch.exp(0.15 * normal(count, 1, 1, 1)))
    cast = torch.exp(0.06 * normal(count, 3, 1, 1))
    value = value * gain * cast
    grey = value.mean(dim=1, keepdim=True)
    saturation = torch.exp(0.2 * normal(count, 1, 1, 1))
    value = grey + (value - grey) * saturation
    share = haze * torch.rand(count, 1, 1, 1, generator=random).square()
    veil = torch.tensor([0.55, 0.62, 0.70])[None, :, None, None]
    value = value + share * (veil - value)
    return value.clamp(0.0, 1.0) * 2.0 - 1.0


def stored_parent(image: torch.Tensor) -> torch.Tensor:
    """The parent (b, 3, h, w) of an image (b, 3, 4h, 4w) as 8-bit storage would give it back."""
    parent, _ = split(image)
    return ((parent + 1.0) * 127.5).round().clamp(0, 255) / 127.5 - 1.0
