"""The errors a user can cause. Each message names the file or key, the value, and what to do about it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class TmuadError(Exception):
    """Base of every error that a user's input causes; the command line prints it without a traceback."""


class ParameterError(TmuadError):
    """A parameter is unknown, missing or out of range."""


class DataError(TmuadError):
    """A data set does not have the shape its layout promises."""


class ImageError(TmuadError):
    """One image or mask cannot be used. Subject to `data.on_bad_image`."""


class WorkerError(TmuadError):
    """A worker process ended before its work did, or is not of our version."""


class ClusterError(TmuadError):
    """There is no Ray, no cluster at the address, or no room on it."""


class ArtifactError(TmuadError):
    """A file that an earlier stage should have written is missing, truncated or from another version."""


class WeightsError(TmuadError):
    """A weight file is missing, damaged, or belongs to another model."""


class DeviceError(TmuadError):
    """A GPU failed, or has too little memory for a single image."""


class Ended:
    """How what stood in `ends_in_words` ended."""

    status = 0  # of the process: 1 after an error


@contextmanager
def ends_in_words() -> Iterator[Ended]:
    """A user's mistake ends here, as a line on standard error and an exit status; any other error goes on."""
    ended = Ended()
    try:
        yield ended
    except TmuadError as error:
        print(f"error: {error}", file=sys.stderr)
        ended.status = 1
