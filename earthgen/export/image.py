"""Pixels as image files: exact (PNG) or small (JPEG, WebP)."""

from __future__ import annotations

import io
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from earthgen.errors import InvalidRequestError

ImageFormat = Literal["png", "jpg", "webp"]
IMAGE_FORMATS: tuple[ImageFormat, ...] = get_args(ImageFormat)
DEFAULT_QUALITY = 85
"""Of JPEG and WebP, 1 to 100."""


def checked_image_format(name: str, quality: int = DEFAULT_QUALITY) -> ImageFormat:
    """An image format by name.

    Raises:
        InvalidRequestError: no such format, or no such quality.
    """
    if not 1 <= quality <= 100:
        raise InvalidRequestError(f"quality is {quality}; 1 to 100 are allowed")
    for known in IMAGE_FORMATS:
        if name == known:
            return known
    raise InvalidRequestError(f"image format is {name!r}; allowed: {', '.join(IMAGE_FORMATS)}")


def encode_image(pixels: npt.NDArray[np.uint8], image: ImageFormat, quality: int = DEFAULT_QUALITY) -> bytes:
    """An image file of pixels, uint8 (h, w, 3) or (h, w); equal pixels give equal bytes.

    Args:
        pixels: colours or grey.
        image: png is exact and takes no quality.
        quality: of jpg and webp, 1 to 100.
    """
    stream = io.BytesIO()
    picture = Image.fromarray(pixels)
    if image == "png":
        picture.save(stream, "PNG")
    elif image == "jpg":
        picture.save(stream, "JPEG", quality=quality)
    else:
        picture.save(stream, "WEBP", quality=quality, method=4)
    return stream.getvalue()
