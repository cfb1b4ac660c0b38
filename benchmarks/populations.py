"""Populations of pictures that quality is measured on: chains as users see them, and children of real parents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from tqdm import tqdm

from benchmarks.measures import Images
from datasets.pyramids import Crops
from earthgen import Engine, World
from earthgen.denoiser import DetailDenoiser
from earthgen.detail import to_unit
from earthgen.pyramid import ROOT_ZOOM, SCALE, Box, world_size
from earthgen.roots import open_root
from earthgen.weights import load_weights
from training.augment import stored_parent
from training.pool import water_share
from training.sheets import generate_children

SEED = 7
CHAIN_SIDE = 128
_FARTHEST = 60.0
"""Degrees of latitude; further out the ground sampling distance leaves its band."""
_LAND = 0.1
"""Largest share of water around a place."""

Place = tuple[int, int]
"""Row and column at the root's zoom."""


def land_places(count: int) -> list[Place]:
    """Places on the Earth's land, always the same ones."""
    root = open_root(World())
    random = np.random.default_rng(11)
    limit = world_size(ROOT_ZOOM)
    places: list[Place] = []
    while len(places) < count:
        fraction = (1 - np.arcsinh(np.tan(np.radians(random.uniform(-_FARTHEST, _FARTHEST)))) / np.pi) / 2
        row, column = int(fraction * limit), int(random.integers(limit))
        if water_share(root.pixels(Box(ROOT_ZOOM, row - 8, column - 8, 16, 16))) < _LAND:
            places.append((row, column))
    return places


def chain(weights: Path | None, places: list[Place], zoom: int, backend: str, quality: str = "standard") -> Images:
    """What users see at the places: (n, 3, 128, 128), every level above it generated too."""
    factor = SCALE ** ((zoom - ROOT_ZOOM) // 2)
    world = World.from_dict({"root": "earth", "seed": SEED, "quality": quality})
    pictures: list[npt.NDArray[np.uint8]] = []
    with Engine.open(weights, backend=backend) as engine:
        for row, column in tqdm(places, desc=f"z{zoom}", leave=False):
            corner = row * factor - CHAIN_SIDE // 2, column * factor - CHAIN_SIDE // 2
            pictures.append(engine.pixels(world, Box(zoom, *corner, CHAIN_SIDE, CHAIN_SIDE)))
    return to_unit(np.stack(pictures))


def bicubic_chain(places: list[Place], zoom: int) -> Images:
    """The root itself at the places, enlarged step by step."""
    root, pictures = open_root(World()), []
    for row, column in places:
        image = to_unit(
            root.pixels(Box(ROOT_ZOOM, row - CHAIN_SIDE // 2, column - CHAIN_SIDE // 2, CHAIN_SIDE, CHAIN_SIDE))
        )
        for _ in range((zoom - ROOT_ZOOM) // 2):
            middle = image[:, :, 48:80, 48:80]
            image = F.interpolate(middle, scale_factor=SCALE, mode="bicubic").clamp(-1, 1)
        pictures.append(image)
    return torch.cat(pictures)


@torch.inference_mode()
def children(net: DetailDenoiser, source: Images, gsd: torch.Tensor, steps: int, seed: int) -> Images:
    """Children of parents after so many x4 steps, the later ones on the network's own output.

    Args:
        net: the network.
        source: (n, 3, h, w), the real parents.
        gsd: (n,), metres per pixel of the last children.
        steps: 1 or more.
        seed: of the noise.
    """
    random = torch.Generator().manual_seed(seed)
    image = source
    for step in reversed(range(steps)):
        parts = zip(image.split(16), gsd.split(16), strict=True)
        image = torch.cat([generate_children(net, part, at * SCALE**step, random) for part, at in parts])
    return image


def ancestors(crops: Crops, steps: int) -> tuple[Images, Images]:
    """Real children and their stored ancestors so many x4 steps above."""
    real = to_unit(crops.pixels)
    source = real
    for _ in range(steps):
        source = stored_parent(source)
    return real, source


def open_net(weights: Path | None) -> DetailDenoiser:
    """The network of a weights folder, ready to sample; None: the shipped ones."""
    net: DetailDenoiser = load_weights(weights).net.eval()
    return net
