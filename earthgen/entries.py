"""The bytes of one stored array: magic, checksum of all that follows, shape, pixels."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

_MAGIC = b"EGW1"
_BOUND_MAGIC = b"EGW2"
_HEADER = struct.Struct("<4s16s3I")


def encode_entry(pixels: Pixels, name: str = "") -> bytes:
    """The entry of an array.

    Args:
        pixels: uint8 (height, width, channels).
        name: goes into the checksum, so that the entry is valid under this name only; empty binds it to none.
    """
    payload = struct.pack("<3I", *pixels.shape) + pixels.tobytes()
    return (_BOUND_MAGIC if name else _MAGIC) + _checksum(payload, name) + payload


def decode_entry(data: bytes, name: str = "") -> Pixels | None:
    """The array of an entry, or None if a single byte of it is wrong, or it belongs to another name."""
    if len(data) < _HEADER.size:
        return None
    magic, checksum, height, width, channels = _HEADER.unpack_from(data)
    payload = memoryview(data)[20:]
    if magic != (_BOUND_MAGIC if name else _MAGIC) or _checksum(payload, name) != checksum:
        return None
    pixels = np.frombuffer(payload, dtype=np.uint8, offset=12)
    return pixels.reshape(height, width, channels) if pixels.size == height * width * channels else None


def _checksum(payload: bytes | memoryview, name: str) -> bytes:
    key = hashlib.blake2b(name.encode()).digest() if name else b""
    return hashlib.blake2b(payload, digest_size=16, key=key).digest()
