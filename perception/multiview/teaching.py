"""A small decoder on a frozen encoder: it learns the labelled pictures, and labels the others for a field to learn.

Contrasting features pixel by pixel (`prior.contrasted`) knows no shapes. A few convolutions with the labelled pictures
turned, mirrored and enlarged do, and what one of them mistakes in one picture is outvoted by other pictures of the same
place once a field learns from all of them. The encoder looks at each changed picture once; its maps are kept.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from perception.multiview.prior import Encoder

_ROUNDS = 16
"""Changed copies of each labelled picture at most."""
_STEPS_A_ROUND = 25
_BATCH = 4
_RATE = 3e-3


class Decoder(nn.Module):
    """Maps of an encoder and the picture to classes.

    Args:
        channels: of the maps.
        classes: how many.
        width: channels inside.
    """

    def __init__(self, channels: int, classes: int, width: int = 32) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.BatchNorm2d(channels), nn.Conv2d(channels, width, 1))
        self.around = nn.Sequential(*(_unit(width, width, apart) for apart in (1, 2, 4)))
        self.classify = nn.Sequential(_unit(width + 3, width), nn.Conv2d(width, classes, 1))

    def forward(self, maps: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Maps (b, c, h', w') of pictures (b, 3, h, w) in 0..1 to logits (b, classes, h, w)."""
        x = self.project(maps)
        x = F.interpolate(x + self.around(x), images.shape[-2:], mode="bilinear")
        out: torch.Tensor = self.classify(torch.cat([x, images], dim=1))
        return out


def _unit(inputs: int, outputs: int, apart: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=apart, dilation=apart), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def taught(
    encoder: Encoder, images: torch.Tensor, targets: torch.Tensor, classes: int, steps: int, seed: int = 0
) -> Decoder:
    """Fit a decoder to labelled pictures.

    Args:
        encoder: frozen.
        images: square pictures (n, 3, h, w) in 0..1.
        targets: classes, 0 to classes - 1, -1 for no label, (n, h, w).
        classes: how many.
        steps: of Adam, with four pictures each.
        seed: of all chance; torch's own is left as it was.
    """
    chance = torch.Generator().manual_seed(seed)
    copies = [(images, targets)]
    copies += [augmented(images, targets, chance) for _ in range(min(_ROUNDS, 1 + steps // _STEPS_A_ROUND) - 1)]
    pictures, truths = (torch.cat(parts) for parts in zip(*copies, strict=True))
    maps = torch.cat([encoder(picture[None]).half() for picture in pictures])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = Decoder(maps.shape[1], classes)
    weights = rarity(targets, classes)
    optimiser = torch.optim.AdamW(decoder.parameters(), weight_decay=1e-2)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = _RATE * min(1.0, (step + 1) / 20) * 0.05 ** (step / steps)
        picked = torch.randint(len(pictures), (_BATCH,), generator=chance)
        logits = decoder(maps[picked].float(), pictures[picked])
        loss = F.cross_entropy(logits, truths[picked], weights, ignore_index=-1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return decoder.eval()


@torch.no_grad()
def guessed(decoder: Decoder, encoder: Encoder, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Classes of pictures (n, 3, h, w), and by how much the probability of each exceeds the next one's: (n, h, w)."""
    classes, margins = [], []
    for image in images:
        # Of the picture and of its mirror image.
        first, second = (decoder(encoder(one), one).softmax(dim=1) for one in (image[None], image[None].flip(3)))
        shares = F.pad((first + second.flip(3))[0] / 2, (0, 0, 0, 0, 0, 1))
        top = shares.topk(2, dim=0)
        classes.append(top.indices[0])
        margins.append(top.values[0] - top.values[1])
    return torch.stack(classes), torch.stack(margins)


def rarity(targets: torch.Tensor, classes: int) -> torch.Tensor:
    """Weights of classes (classes,): rare ones count more, as the square root of their rarity; -1 is no class."""
    counts = torch.bincount(targets[targets >= 0].flatten(), minlength=classes).float()
    return (counts.mean() / counts.clamp_min(1)).sqrt()


def augmented(
    images: torch.Tensor, targets: torch.Tensor, chance: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Square pictures (n, 3, s, s) and targets (n, s, s), turned, mirrored, enlarged, lighter or darker by chance."""
    pictures, truths = [], []
    side = images.shape[-1]
    for picture, truth in zip(images, targets, strict=True):
        draw = torch.rand(6, generator=chance)
        turns = int(4 * draw[0])
        picture, truth = picture.rot90(turns, (1, 2)), truth.rot90(turns, (0, 1))
        if draw[1] < 0.5:
            picture, truth = picture.flip(2), truth.flip(1)
        kept = int(side * (0.6 + 0.4 * float(draw[2])))
        top, left = (int(float(value) * (side - kept + 1)) for value in draw[3:5])
        picture = picture[None, :, top : top + kept, left : left + kept]
        truth = truth[None, None, top : top + kept, left : left + kept].float()
        picture = F.interpolate(picture, (side, side), mode="bilinear")[0]
        pictures.append((picture * (0.85 + 0.3 * draw[5])).clamp(0, 1))
        truths.append(F.interpolate(truth, (side, side), mode="nearest")[0, 0].long())
    return torch.stack(pictures), torch.stack(truths)
