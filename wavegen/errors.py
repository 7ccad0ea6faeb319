"""The errors that a user can cause. Each message is one line that names the remedy."""

import os


class WavegenError(Exception):
    """Base class of all errors that the caller can correct; the command line exits with 2.

    Args:
        message: one line.
        path: the file or folder that the error is about, if there is one.
        reason: the message without the path, for output that names the file already.
    """

    def __init__(
        self,
        message: str = "",
        *,
        path: str | os.PathLike[str] | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message)
        self.path = path
        self.reason = message if reason is None else reason


class AudioFileError(WavegenError):
    """A file that cannot be read as audio, or whose audio is damaged."""


class DataError(WavegenError):
    """A folder whose recordings, metadata, labels or splits cannot be used."""


class LabelError(WavegenError):
    """An unknown label attribute or class name; the message lists the known ones."""


class ConfigError(WavegenError):
    """A setting outside its range, or settings that contradict each other."""


class ModelError(WavegenError):
    """A model directory or run folder that is missing, incomplete or inconsistent."""


class OutputError(WavegenError):
    """A result that cannot be written, for example because the disk is full."""


class Stopped(BaseException):
    """A signal has ended the command. This is no error: the exit status is 128 + its number.

    Like KeyboardInterrupt it is no subclass of `Exception`, so that no library catches it as an
    error and continues.
    """

    def __init__(self, number: int, advice: str = "") -> None:
        super().__init__(advice)
        self.number = number
