"""Every error that ganblocks raises for reasons other than a wrong argument.

A wrong argument raises ``ValueError`` or ``TypeError`` with its name, its value and what was expected.
Everything that goes wrong outside the call itself (a file, a disk, a run, a number that is no number) is one of the
errors below, so ``except GanblocksError`` catches them all and nothing else. The one warning at the end is no error:
the number it comes with is right, but says less than it seems to.
"""

__all__ = [
    "CheckpointCorruptError",
    "CheckpointError",
    "DataError",
    "DistributedError",
    "EmptyDatasetError",
    "FingerprintMismatchError",
    "GanblocksError",
    "ImageDecodeError",
    "ImageTooLargeError",
    "MetricError",
    "NonFiniteError",
    "RunMismatchError",
    "SecurityError",
    "SmallSampleWarning",
    "WorkerDiedError",
]


class GanblocksError(Exception):
    """Base of all errors below."""


class CheckpointError(GanblocksError):
    """A checkpoint could not be written, found or understood."""


class CheckpointCorruptError(CheckpointError):
    """A checkpoint is there, but its bytes are not the ones that were written."""


class RunMismatchError(CheckpointError):
    """The run directory belongs to a run with other settings."""


class DataError(GanblocksError):
    """A data set could not be used."""


class ImageDecodeError(DataError):
    """A file is not an image, or a damaged one."""


class ImageTooLargeError(DataError):
    """An image claims more pixels than the limit, by its header; it was not decoded."""


class EmptyDatasetError(DataError):
    """No image was found where images were expected."""


class WorkerDiedError(DataError):
    """A data-loading process died or hung."""


class NonFiniteError(GanblocksError):
    """A loss, a gradient or a weight is NaN or infinite."""


class MetricError(GanblocksError):
    """A metric could not be computed."""


class FingerprintMismatchError(MetricError):
    """Two scores or statistics were made in different ways and must not be compared."""


class DistributedError(GanblocksError):
    """Processes of one run disagree."""


class SecurityError(GanblocksError):
    """Input that tries to do what input must not do."""


class SmallSampleWarning(UserWarning):
    """A metric was computed from so few samples that its bias may exceed what it measures."""
