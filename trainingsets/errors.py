"""What can go wrong with a dump."""

from __future__ import annotations

from earthgen.errors import EarthgenError, InvalidRequestError


class DumpError(EarthgenError):
    """A dump that cannot be written, gone on with, or read."""


class DumpSpecError(InvalidRequestError):
    """A dump that cannot be: an unknown task or format, or numbers out of range."""
