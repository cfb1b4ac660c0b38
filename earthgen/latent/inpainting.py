"""Regenerating part of one window with a 9-channel checkpoint (Stable Diffusion's inpainting layout)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from earthgen.errors import AddressError, InvalidRequestError, WeightsError
from earthgen.latent.model import INPAINTING_CHANNELS, LATENT_CHANNELS, LATENT_PIXELS, LatentModel
from earthgen.latent.root import MAX_SEED
from earthgen.latent.schedule import Schedule
from earthgen.noise import NoiseField
from earthgen.pyramid import Box, check_zoom, world_size

Pixels = npt.NDArray[np.uint8]

SIDE = 256
"""Pixels along the side of the one window that is regenerated."""
NOISE_STREAM = 17
"""The stream of NoiseField that the noise is taken from."""


@torch.inference_mode()
def inpaint(
    model: LatentModel,
    image: Pixels,
    mask: Pixels,
    prompt: str,
    negative: str = "",
    guidance: float = 4.0,
    box: Box | None = None,
    seed: int = 0,
    *,
    scheduler: str = "DPMSolverMultistepScheduler",
    steps: int = 25,
) -> Pixels:
    """Make something else where a mask is white.

    The network reads the noisy latents, the mask as it is (soft edges included) and the latents of the picture
    with everything under the mask's upper half blanked to mid grey, in that order. Its result is mixed with
    the picture by the mask, so where the mask is 0 not a byte changes.

    Args:
        model: an inpainting checkpoint (9 channels).
        image: uint8 (256, 256, 3).
        mask: uint8 (256, 256); 255 is regenerated, 0 stays.
        prompt: what is there instead.
        negative: what is not.
        guidance: 1 .. 30; 1 is no guidance.
        box: where the image lies, 256 x 256 pixels whose edges are multiples of 8: its zoom is the resolution
            level, and noise is addressed by its place. None means an unknown resolution, and one noise for all.
        seed: 0 .. 2**64 - 1.
        scheduler: one of SCHEDULERS.
        steps: denoising steps.

    Returns:
        uint8 (256, 256, 3).

    Raises:
        InvalidRequestError: an argument of another shape, type or range.
        WeightsError: the model is a text-to-image one.
    """
    if model.channels != INPAINTING_CHANNELS:
        raise WeightsError(
            f"{model.source} is a text-to-image checkpoint ({model.channels} channels); "
            f"inpainting needs one of {INPAINTING_CHANNELS} channels"
        )
    for name, array, shape in (("image", image, (SIDE, SIDE, 3)), ("mask", mask, (SIDE, SIDE))):
        if array.shape != shape or array.dtype != np.uint8:
            raise InvalidRequestError(f"{name} is {array.dtype} {array.shape}; uint8 {shape} is needed")
    if not 0 <= seed <= MAX_SEED:
        raise InvalidRequestError(f"seed {seed} is outside 0..{MAX_SEED}")
    if box is not None:
        check_zoom(box.zoom)
        if (box.height, box.width) != (SIDE, SIDE) or box.row % LATENT_PIXELS or box.column % LATENT_PIXELS:
            raise AddressError(f"{box} is not {SIDE} x {SIDE} pixels with edges at multiples of {LATENT_PIXELS}")

    condition = model.condition(prompt, negative, guidance, None if box is None else box.zoom)
    schedule = Schedule(scheduler, model.scheduler_numbers, steps)
    where = box or Box(0, 0, 0, SIDE, SIDE)
    side = SIDE // LATENT_PIXELS
    noise = NoiseField(seed, where.zoom, NOISE_STREAM).normal(
        where.row // LATENT_PIXELS,
        where.column // LATENT_PIXELS,
        side,
        side,
        LATENT_CHANNELS,
        wrap=world_size(where.zoom) // LATENT_PIXELS,
    )
    fixed = torch.from_numpy(_fixed_channels(model, image, mask)).to(model.device)
    latents = schedule.run(
        0,
        torch.from_numpy(noise * np.float32(schedule.noise_scale))[None].to(model.device),
        lambda state, timestep: model.predict(state, timestep, condition, fixed=fixed),
        [seed >> 1],
    )
    made = (model.decode(latents)[0].transpose(1, 2, 0).clip(-1, 1) + 1) * 127.5
    share = mask[..., None].astype(np.float32) / 255
    mixed: Pixels = np.floor(share * made + (1 - share) * image + 0.5).astype(np.uint8)
    return mixed


def _fixed_channels(model: LatentModel, image: Pixels, mask: Pixels) -> npt.NDArray[np.float32]:
    """The mask and the masked picture's latents, float32 (1, 5, 32, 32)."""
    soft = mask.astype(np.float32) / 255
    picture = image.astype(np.float32).transpose(2, 0, 1) / 127.5 - 1
    blanked = np.where(soft < 0.5, picture, np.float32(0))
    latents = model.encode(torch.from_numpy(blanked)[None]).cpu().numpy()
    # The networks were trained with the mask's top left pixel of each 8 x 8, as nearest resampling gives it.
    small = soft[::LATENT_PIXELS, ::LATENT_PIXELS]
    return np.concatenate([small[None, None], latents], axis=1)
