"""A patch discriminator for the adversarial tail: does a child look like overhead imagery, given its parent?

Five convolutions with spectral normalisation (Miyato et al. 2018) judge overlapping patches of about 50
pixels (PatchGAN, Isola et al. 2017, section 3.2.2), and a projection (Miyato & Koyama 2018) tells it the
ground sampling distance.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from earthgen.unet import sinusoid

FINEST_UNIT = 0.02
"""[-1, 1] units; below 2.5 grey levels lie the artefacts of image compression, which are not to be learnt."""


_GAIN = 2.0
"""What each normalised layer may amplify: with 1 the discriminator never reached the hinge's margins."""


class PatchDiscriminator(nn.Module):
    """Scores patches of an image beside the up-sampling of its parent.

    Args:
        width: channels after the first convolution.
    """

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        widths = (6, width, 2 * width, 4 * width)
        self.down = nn.ModuleList(
            spectral_norm(nn.Conv2d(before, after, 4, stride=2, padding=1)) for before, after in pairwise(widths)
        )
        self.mix = spectral_norm(nn.Conv2d(widths[-1], widths[-1], 3, padding=1))
        self.gsd = nn.Linear(64, widths[-1])
        self.score = spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(
        self, image: torch.Tensor, parent: torch.Tensor, unit: torch.Tensor, log2_gsd: torch.Tensor
    ) -> torch.Tensor:
        """Patch scores.

        Args:
            image: (b, 3, 4h, 4w) in [-1, 1].
            parent: (b, 3, h, w) in [-1, 1].
            unit: (b, 1, h, w), the unit of lightness detail at each position, at least FINEST_UNIT.
            log2_gsd: (b,), log2 of the image's metres per pixel.

        Returns:
            (b, 1, h / 2, w / 2); above 0 leans to real.
        """
        smooth = F.interpolate(parent, scale_factor=4, mode="bicubic", align_corners=False)
        # What the child adds is faint beside what both share: show the difference, in its own unit.
        enlarged = (image - smooth) / F.interpolate(unit, scale_factor=4, mode="nearest")
        # The parent's tone is not the child's doing, and roots have tones that no picture has: leave it out.
        shape = smooth - smooth.mean(dim=(2, 3), keepdim=True)
        h = torch.cat([enlarged, shape], dim=1).contiguous(memory_format=torch.channels_last)
        for layer in self.down:
            h = F.leaky_relu(_GAIN * layer(h), 0.2)
        h = F.leaky_relu(_GAIN * self.mix(h), 0.2)
        projection = (self.gsd(sinusoid(log2_gsd, 64, 2.0, 64.0))[:, :, None, None] * h).mean(dim=1, keepdim=True)
        score: torch.Tensor = _GAIN * self.score(h) + projection
        return score
