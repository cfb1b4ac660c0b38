"""Measure what colours things have on real pictures: the palette of `earthgen.scenery`.

    python -m training.palette --data DIR --out earthgen/weights/scenery

Every crop of the packs has nouns for what it shows (`datasets.captions`). For each noun the mean colour of its crops,
how much crops differ from each other, and how much light varies inside a crop are kept beside the noun's text vector.
A minute on one core; the same data give the same file.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from safetensors.numpy import save_file
from tqdm import tqdm

from datasets.captions import CaptionBook
from datasets.packs import imagery_folder
from datasets.pyramids import CropSampler, read_levels
from earthgen.conditioning import text_encoder

_SIDE = 64
_BLOCK = 4
"""Pixels along the blocks whose means vary inside a crop: what is finer is the cascade's to make."""
_LEAST = 6
"""Crops that a noun needs."""
_SEED = 20261126


def main(
    out: Annotated[Path, typer.Option(metavar="DIR", help="where palette.safetensors is written")],
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="imagery; default: EARTHGEN_DATA")] = None,
    crops: Annotated[int, typer.Option(min=100, help="crops to look at")] = 24_000,
) -> None:
    """Write the palette."""
    levels = read_levels(imagery_folder(data), "train")
    encoder = text_encoder()
    book = CaptionBook.build(levels, encoder)
    sampler = CropSampler(levels, _SIDE, _SEED)
    seen: dict[int, list[npt.NDArray[np.float32]]] = defaultdict(list)
    for number in tqdm(range(crops // 100), desc="crops"):
        batch = sampler.draw(number, 100)
        for level, crop in zip(batch.levels, batch.pixels, strict=True):
            for noun in book.kinds(level, crop)[0]:
                seen[noun].append(_statistics(crop))
    kept = sorted((book.texts[noun], noun) for noun, crops_of_it in seen.items() if len(crops_of_it) >= _LEAST)
    values = [np.stack(seen[noun]) for _, noun in kept]
    # Medians: a cloud's shadow or a mislabelled crop should not tint a noun.
    mean = np.stack([np.median(value[:, :3], axis=0) for value in values])
    among = np.stack([value[:, :3].std(axis=0) for value in values])
    inside = np.array([np.median(value[:, 3]) for value in values])
    vectors = np.stack([book.vectors[noun] for _, noun in kept])
    out.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, npt.NDArray[np.generic]] = {
        "vectors": vectors.astype(np.float16),
        "mean": mean.astype(np.float32),
        "among": among.astype(np.float32),
        "inside": inside.astype(np.float32),
    }
    save_file(tensors, out / "palette.safetensors", {"nouns": "\n".join(text for text, _ in kept)})
    typer.echo(f"{len(kept)} nouns of {crops} crops in {out / 'palette.safetensors'}")


def _statistics(crop: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Mean red, green and blue, and the standard deviation of light between blocks, all in [0, 1]; (4,)."""
    values = crop.astype(np.float32) / 255
    blocks = values.reshape(_SIDE // _BLOCK, _BLOCK, _SIDE // _BLOCK, _BLOCK, 3).mean(axis=(1, 3, 4))
    return np.array([*values.mean(axis=(0, 1)), blocks.std()], dtype=np.float32)


if __name__ == "__main__":
    typer.run(main)
