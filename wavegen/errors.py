"""Every error a user can meet. Each message is one line that names the remedy."""

import os


class WavegenError(Exception):
    """Base of all errors that are the caller's to mend; the command line exits with 2.

    Args:
        message: one line.
        path: the file or folder that the error is about, if it is about one.
        reason: the message without the path, for places that name the file already.
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
    """A file that cannot be read as audio, or not trusted once read."""


class DataError(WavegenError):
    """A folder, its metadata, its labels or its splits cannot be used as they are."""


class LabelError(WavegenError):
    """An unknown label attribute or class name; the message lists the known ones."""


class ConfigError(WavegenError):
    """A setting outside its range, or settings that contradict each other."""


class ModelError(WavegenError):
    """A model directory or run folder that is missing, incomplete or inconsistent."""


class OutputError(WavegenError):
    """A result that cannot be written: no room, no permission, not a folder."""


class Stopped(BaseException):
    """A signal ended the command: no error, but the exit status is 128 + its number.

    Like KeyboardInterrupt it is no `Exception`, so that no library takes it for an error of
    its own and goes on.
    """

    def __init__(self, number: int, advice: str = "") -> None:
        super().__init__(advice)
        self.number = number
