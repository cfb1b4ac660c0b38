"""The exception tree of the engine.

    EarthgenError
    ├── InvalidRequestError (ValueError)    the caller asked for something that cannot be
    │   ├── AddressError                    a zoom, column, row or place outside the pyramid
    │   ├── WorldError                      a world specification that makes no sense
    │   └── RequestTooLargeError            more pixels than one request may ask for
    ├── UnknownWorldError (LookupError)     a world name or id that nobody registered
    ├── RegistryError                       registered worlds cannot be read, written, or are too many
    ├── ExportError                         a file cannot be written, or another process is writing it
    │   └── ExportLimitError                an export stopped at its limit, to be gone on with
    ├── WeightsError                        weights missing, damaged or of another layout
    ├── StoreError                          a shared store whose address is wrong or that cannot be reached
    ├── BackendError                        a backend that does not exist, is not installed or does not fit
    ├── OverloadedError                     too much work queued: try again later
    └── RequestCancelledError               the caller went away before its work began

Every message says what was wrong, which value it was, and what is allowed.
"""


class EarthgenError(Exception):
    """Root of every error that earthgen raises on purpose."""


class InvalidRequestError(EarthgenError, ValueError):
    """The request itself is wrong; asking again will not help."""


class AddressError(InvalidRequestError):
    """A zoom, column, row, longitude, latitude or bounds outside the pyramid."""


class WorldError(InvalidRequestError):
    """A world specification that cannot be used."""


class RequestTooLargeError(InvalidRequestError):
    """More pixels than one request may ask for."""


class UnknownWorldError(EarthgenError, LookupError):
    """A world name or id that is neither built in nor registered."""


class RegistryError(EarthgenError):
    """Registered worlds that cannot be read or written, are damaged, or are as many as may be."""


class ExportError(EarthgenError):
    """An export that cannot be written, or that another process is writing."""


class ExportLimitError(ExportError):
    """An export that stopped at its limit of bytes or seconds, to be gone on with."""


class WeightsError(EarthgenError):
    """Weights that are missing, truncated, corrupt or of another layout."""


class StoreError(EarthgenError):
    """A shared store whose address makes no sense, or that cannot be reached when it is opened."""


class BackendError(EarthgenError):
    """A backend that does not exist, is not installed, or does not run on the chosen device."""


class OverloadedError(EarthgenError):
    """Too much work is queued already.

    Args:
        message: what is full.
        retry_after: seconds after which a client may try again.
    """

    def __init__(self, message: str, retry_after: int = 2) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RequestCancelledError(EarthgenError):
    """The caller withdrew its request before the work on it began."""
