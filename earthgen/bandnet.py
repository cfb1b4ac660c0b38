"""The small network that reads one band off colours: a `LocalUNet` over blocks of 2x2 pixels.

Like the cascade's network it is local, so windows that overlap agree where both see enough, and it is told the ground
sampling distance row by row.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from torch import nn

from earthgen.bands import Band
from earthgen.conditioning import one_thread
from earthgen.detail import to_unit
from earthgen.errors import WeightsError
from earthgen.unet import ALIGNMENT, LocalUNet, sinusoid
from earthgen.weights import load_model

FOLD = 2
"""Pixels along a side of the blocks that the network works on."""
PIXEL_ALIGNMENT = FOLD * ALIGNMENT
"""Sides of the pictures that the network takes are multiples of this."""


class BandNet(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers declares config_name twice
    """Colours and ground sampling distance to one value, or one logit a class, for each pixel.

    Args:
        band: name of the band that it was trained for.
        codes: codes of the classes, one an output; empty for a band of values.
        channels: widths of the three resolutions.
        blocks: blocks of the stages: fine, middle, coarse, middle, fine.
        kernel: side of the depthwise kernels, in blocks of pixels.
        expansion: widening inside a block.
        embedding: width of the row embedding.
        margin: pixels at each side of a window that are thrown away; a multiple of PIXEL_ALIGNMENT.
    """

    @register_to_config
    def __init__(
        self,
        band: str = "nir",
        codes: tuple[int, ...] = (),
        channels: tuple[int, int, int] = (24, 48, 96),
        blocks: tuple[int, int, int, int, int] = (1, 1, 2, 1, 1),
        kernel: int = 7,
        expansion: int = 2,
        embedding: int = 32,
        margin: int = 64,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        outputs = max(1, len(codes))
        self.gsd = nn.Sequential(nn.Linear(64, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU())
        self.unet = LocalUNet(
            FOLD**2 * 3, FOLD**2 * outputs, channels, blocks, embedding, kernel, expansion, "interpolate"
        )

    @property
    def margin(self) -> int:
        """Pixels at each side of a window that are thrown away."""
        return int(self.config["margin"])

    def forward(self, colours: torch.Tensor, log2_gsd: torch.Tensor) -> torch.Tensor:
        """Read.

        Args:
            colours: (b, 3, h, w) in [-1, 1]; h and w multiples of PIXEL_ALIGNMENT.
            log2_gsd: (b, h), log2 of metres per pixel.

        Returns:
            (b, 1, h, w), the value in [-1, 1] units, or (b, classes, h, w), logits.
        """
        rows = self.gsd(sinusoid(F.avg_pool1d(log2_gsd[:, None], FOLD)[:, 0], 64, 2.0, 64.0))
        folded = self.unet(F.pixel_unshuffle(colours, FOLD), rearrange(rows, "b h d -> b d h"))
        return F.pixel_shuffle(folded, FOLD)

    @torch.inference_mode()
    def read(self, pixels: npt.NDArray[np.uint8], gsd: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
        """A band of a picture.

        Args:
            pixels: uint8 (h, w, 3); h and w multiples of PIXEL_ALIGNMENT.
            gsd: metres per pixel of each row, (h,).

        Returns:
            uint8 (h, w), brightness or codes.
        """
        device = next(self.parameters()).device
        log2_gsd = torch.from_numpy(np.log2(gsd).astype(np.float32))[None].to(device)
        with one_thread():
            out = self(to_unit(pixels).to(device), log2_gsd)[0].cpu()
        if len(out) == 1:
            return np.asarray(((out[0] + 1.0) * 127.5).round().clamp(0, 255), dtype=np.uint8)
        codes = np.array(self.config["codes"], dtype=np.uint8)
        return np.asarray(codes[out.argmax(dim=0).numpy()])


def load_band_net(folder: Path, band: Band) -> BandNet:
    """Load a band's network for inference, on a GPU if there is one.

    Raises:
        WeightsError: nothing is there, a file is damaged, or it was trained for another band or legend.
    """
    net: BandNet = load_model(BandNet, folder, folder).net
    codes = tuple(item.code for item in band.classes)
    if net.config["band"] != band.name or tuple(net.config["codes"]) != codes:
        raise WeightsError(
            f"{folder} holds band {net.config['band']!r} with codes {tuple(net.config['codes'])};"
            f" {band.name!r} with codes {codes} is needed"
        )
    net.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))  # type: ignore[arg-type]  # untyped in diffusers
    net.eval().requires_grad_(False)
    return net
