"""Writing audio files: 16-bit WAVs piece by piece, and whole files in memory."""

import io
import os
import wave
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
import soundfile as sf

from wavegen.errors import OutputError
from wavegen.utils.files import appearing_whole
from wavegen.utils.text import display

_Path = str | os.PathLike[str]


def encoded(waveform: np.ndarray, sample_rate: int, kind: str) -> bytes:
    """A waveform (time,) as a file of 16 bits in memory, "WAV" or "FLAC"."""
    buffer = io.BytesIO()
    sf.write(buffer, waveform, sample_rate, format=kind, subtype="PCM_16")
    return buffer.getvalue()


def has_rate(kind: str, sample_rate: int) -> bool:
    """Whether a file of this kind can have that rate, in Hz: FLAC has none above 655,350."""
    try:
        encoded(np.zeros(1, np.float32), sample_rate, kind)
    except sf.LibsndfileError:
        return False
    return True


class WavWriter:
    """Writes a mono 16-bit WAV piece by piece; the file appears when it is complete.

    It is used in a `with` statement. A sample x becomes round(32768 x), clamped to -32768 to
    32767, so that reading gives it back within 1/65536 (1/32768 at full scale).
    """

    def __init__(self, path: _Path, sample_rate: int) -> None:
        self._path = Path(path)
        self._sample_rate = sample_rate
        self._frames = 0

    def __enter__(self) -> "WavWriter":
        with ExitStack() as stack:
            file = stack.enter_context(appearing_whole(self._path))
            self._wave = stack.enter_context(wave.open(file, "wb"))
            self._wave.setnchannels(1)
            self._wave.setsampwidth(2)
            self._wave.setframerate(self._sample_rate)
            self._stack = stack.pop_all()
        return self

    def append(self, waveform: np.ndarray) -> None:
        """Append `waveform`, float32 `(time,)`, to the file.

        Raises:
            OutputError: the waveform holds NaN or infinity, the file would exceed the 4 GB that
                a WAV can hold, or the disk is full. If this error leaves the `with` block,
                no file is written.
        """
        finite = np.isfinite(waveform)
        if not finite.all():
            second = (self._frames + int(np.argmin(finite))) / self._sample_rate
            raise OutputError(
                f"{display(self._path)}: not written: NaN or infinity at {second:.3f} s;"
                " check the model that made it"
            )
        self._frames += len(waveform)
        if 36 + 2 * self._frames >= 1 << 32:
            raise OutputError(f"{display(self._path)}: a WAV holds 4 GB; write shorter ones")
        scaled = np.rint(np.asarray(waveform, np.float64) * 32768)
        self._wave.writeframesraw(np.clip(scaled, -32768, 32767).astype("<i2").tobytes())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, traceback)


def write(path: _Path, waveform: np.ndarray, sample_rate: int) -> None:
    """Write `waveform`, float32 `(time,)`, as a mono 16-bit WAV; no partial file is left.

    Raises:
        OutputError: as for `WavWriter.append`, or `path` cannot be written.
    """
    with WavWriter(path, sample_rate) as writer:
        writer.append(waveform)
