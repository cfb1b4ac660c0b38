"""Latent-diffusion checkpoints in the tile pyramid: Stable Diffusion 2 layouts, Text2Earth's among them.

A checkpoint of Text2Earth (Liu et al. 2025, arXiv 2501.00895) or any other of that layout is read component
by component from a folder or from the hub, without running code that came with it:

    model = LatentModel.load("hf:lcybuaa/Text2Earth")
    root = LatentRoot(model, "a harbour town on a rocky coast", zoom=16, seed=7)
    root.pixels(Box(16, row, column, height, width))

Such networks are not local (group norm, attention, an autoencoder), so windows do not agree by themselves:
they overlap by half and are blended between phases of the denoising. docs/checkpoints.md says what that costs.
"""

from earthgen.latent.inpainting import inpaint
from earthgen.latent.model import LatentModel
from earthgen.latent.root import LatentRoot
from earthgen.latent.schedule import SCHEDULERS

__all__ = ["SCHEDULERS", "LatentModel", "LatentRoot", "inpaint"]
