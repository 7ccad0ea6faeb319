"""Reading audio files: probe, decode, resample.

Decoders accept headers that promise missing audio, impossible rates and lengths, and samples
that are not numbers. Here each of these is an `AudioFileError` that names the file.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile as sf
import soxr

from wavegen.audio import containers
from wavegen.errors import AudioFileError, ConfigError
from wavegen.utils.text import display

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
LOWEST_RATE, HIGHEST_RATE = 100, 768_000

_BLOCK_VALUES = 1 << 18  # frames times channels decoded at once: 1 MB
_UNKNOWN_FRAMES = 1 << 62
# The largest FLAC block has 65535 frames and needs at least this many bytes.
_FLAC_BLOCK_FRAMES, _FLAC_BLOCK_BYTES = 65_535, 10
_FLAC_BITS = (8, 16, 24)  # that libsndfile reads

_Path = str | os.PathLike[str]


@dataclass(frozen=True)
class AudioInfo:
    """The header of a file: rate in Hz, channels, and frames (samples per channel).

    The frames of an MP3 without a length tag are an estimate.
    """

    sample_rate: int
    channels: int
    frames: int


def probe(path: _Path) -> AudioInfo:
    """Read the header of an audio file, and check that the file is long enough for it.

    Raises:
        AudioFileError: not audio, not readable, no frames, a rate outside 100 to
            768,000 Hz, or fewer bytes than the header promises.
    """
    with _opened(path) as opened:
        return AudioInfo(opened.file.samplerate, opened.file.channels, opened.frames)


def blocks(path: _Path, sample_rate: int | None = None) -> Iterator[np.ndarray]:
    """Decode a file in bounded memory: float32 blocks `(time,)`, the mean of its channels.

    With `sample_rate` (Hz) the blocks are resampled (soxr, HQ) as one stream, so that the
    result does not depend on their size. Samples beyond [-1, 1] are kept.

    Raises:
        AudioFileError: as for `probe`; or the file is cut short or damaged, holds NaN
            or infinity, or is shorter than one sample at `sample_rate`.
        ConfigError: `sample_rate` is outside 100 to 768,000 Hz.
    """
    if sample_rate is not None:
        _check_rate(sample_rate)
    with _opened(path) as opened:
        rate = opened.file.samplerate
        yield from _at_rate(path, _mono(path, opened), rate, sample_rate or rate)


def waveform_blocks(
    waveform: np.ndarray, from_rate: int, sample_rate: int, name: _Path = "waveform"
) -> Iterator[np.ndarray]:
    """The same blocks for a `waveform`, float (time,), at `from_rate` Hz, instead of a file.

    Raises:
        AudioFileError: the waveform has no samples, holds NaN or infinity, or is shorter than
            one sample at `sample_rate`.
        ConfigError: the shape or type is wrong, or a rate is outside 100 to 768,000 Hz.
    """
    if waveform.ndim != 1 or waveform.dtype.kind != "f":
        raise ConfigError(
            f"{display(name)}: is {waveform.dtype} {waveform.shape}: it must be float (time,)"
        )
    _check_rate(from_rate)
    _check_rate(sample_rate)
    if not len(waveform):
        raise _bad(name, "holds no samples; leave it out")
    yield from _at_rate(name, _finite(name, waveform), from_rate, sample_rate)


def _check_rate(sample_rate: int) -> None:
    if not LOWEST_RATE <= sample_rate <= HIGHEST_RATE:
        raise ConfigError(
            f"sample_rate is {sample_rate} Hz: it must be {LOWEST_RATE} to {HIGHEST_RATE}"
        )


def _finite(name: _Path, waveform: np.ndarray) -> Iterator[np.ndarray]:
    """Blocks of a waveform, float32, none of them with NaN or infinity."""
    for start in range(0, len(waveform), _BLOCK_VALUES):
        block = np.asarray(waveform[start : start + _BLOCK_VALUES], dtype=np.float32)
        if not np.isfinite(block).all():
            raise _bad(name, "holds NaN or infinity; repair it or leave it out")
        yield block


def _at_rate(
    path: _Path, mono: Iterable[np.ndarray], from_rate: int, sample_rate: int
) -> Iterator[np.ndarray]:
    """Blocks (time,) resampled as one stream."""
    if sample_rate == from_rate:
        yield from mono
        return
    stream = soxr.ResampleStream(
        from_rate, sample_rate, num_channels=1, dtype="float32", quality="HQ"
    )
    produced = 0
    # The pieces are so short that the result of each fits one block.
    step = max(1, min(_BLOCK_VALUES, _BLOCK_VALUES * from_rate // sample_rate))
    for block in mono:
        for start in range(0, len(block), step):
            resampled = _resampled(path, stream, block[start : start + step])
            produced += len(resampled)
            if len(resampled):
                yield resampled
    rest = _resampled(path, stream, np.zeros(0, np.float32), last=True)
    if produced + len(rest) == 0:
        raise _bad(path, f"is shorter than one sample at {sample_rate} Hz; leave it out")
    if len(rest):
        yield rest


def _resampled(
    path: _Path, stream: soxr.ResampleStream, block: np.ndarray, last: bool = False
) -> np.ndarray:
    resampled = stream.resample_chunk(block, last=last)
    # Resampling overshoots, so that the largest float32 values become infinite.
    if not np.isfinite(resampled).all():
        raise _bad(path, "holds samples too large to resample; repair it or leave it out")
    return resampled


def read(path: _Path, sample_rate: int | None = None) -> np.ndarray:
    """Decode a whole file: float32 `(time,)`, mono, at `sample_rate` Hz or its own rate.

    Raises:
        AudioFileError, ConfigError: as `blocks`.
    """
    return np.concatenate(list(blocks(path, sample_rate)))


def _bad(path: _Path, reason: str) -> AudioFileError:
    return AudioFileError(f"{display(path)}: {reason}", path=path, reason=reason)


def _cut_short(path: _Path, what: str) -> AudioFileError:
    return _bad(path, f"is cut short ({what}); copy or export it again")


@dataclass(frozen=True)
class _Opened:
    """An audio file whose header has been checked.

    Args:
        file: the open decoder.
        frames: number of frames in the header.
        descriptor: file descriptor that the decoder reads from.
        raw: the same file, opened a second time, with a position of its own.
    """

    file: sf.SoundFile
    frames: int
    descriptor: int
    raw: BinaryIO


@contextmanager
def _opened(path: _Path) -> Iterator[_Opened]:
    """Open an audio file and check its header.

    soundfile gets a descriptor, because it refuses names that are not UTF-8.
    """
    with ExitStack() as stack:
        try:
            # Opening a pipe would wait until another program writes to it.
            if not stat.S_ISREG(Path(path).stat().st_mode):
                raise _bad(path, "is not a regular file; leave it out")
            descriptor = stack.enter_context(Path(path).open("rb")).fileno()
            raw = stack.enter_context(Path(path).open("rb", buffering=0))
            file = stack.enter_context(_decoder(path, descriptor, raw))
            _check_header(path, file)
            frames = _promised_frames(path, file, raw, os.fstat(descriptor).st_size)
        except OSError as error:
            reason = error.strerror or str(error)
            raise _bad(
                path, f"cannot be opened ({reason}); check that it exists and may be read"
            ) from error
        yield _Opened(file, frames, descriptor, raw)


class _Forward(sf.SoundFile):
    """A file that is read from beginning to end, without seeking.

    After every read soundfile seeks to its present position if the file can seek. This fails at
    the end of a FLAC without a length in its header.
    """

    def seekable(self) -> bool:
        return False


def _decoder(path: _Path, descriptor: int, raw: BinaryIO) -> sf.SoundFile:
    try:
        return _Forward(descriptor, closefd=False)
    except sf.SoundFileError as error:
        bits = containers.flac_bits(raw)
        if bits in (None, *_FLAC_BITS):
            reason = "is not audio that can be read; give WAV, FLAC, OGG or MP3, or leave it out"
        else:
            reason = (
                f"is FLAC of {bits} bits a sample, and only {', '.join(map(str, _FLAC_BITS))} can"
                " be read; convert it to 24, for example by ffmpeg or sox, or leave it out"
            )
        raise _bad(path, reason) from error


def _check_header(path: _Path, file: sf.SoundFile) -> None:
    if not LOWEST_RATE <= file.samplerate <= HIGHEST_RATE:
        raise _bad(
            path,
            f"has a sample rate outside {LOWEST_RATE} to {HIGHEST_RATE} Hz"
            f" ({file.samplerate}); repair its header or leave it out",
        )
    if file.frames <= 0:
        raise _bad(path, "holds no audio (0 frames); export it again or leave it out")


def _promised_frames(path: _Path, file: sf.SoundFile, raw: BinaryIO, size: int) -> int:
    """The number of frames in the header, checked against the size of the file."""
    frames = file.frames
    if file.format in ("WAV", "WAVEX", "RF64"):
        promised = containers.wav_data(raw)
        if promised is not None and sum(promised) > size:
            start, length = promised
            raise _cut_short(path, f"{size - start} of {length} bytes of audio")
    elif file.format == "OGG" and not containers.ogg_ends(raw, size):
        raise _cut_short(path, "its last page is missing")
    elif file.format == "FLAC":
        if frames >= _UNKNOWN_FRAMES:
            found = containers.flac_frames(raw, size)
            if found is None:
                raise _cut_short(path, "its last block is not whole")
            frames = found
        if frames // _FLAC_BLOCK_FRAMES * _FLAC_BLOCK_BYTES > size:
            raise _bad(
                path,
                f"claims more audio than it can hold ({frames} frames in {size} bytes);"
                " export it again",
            )
    return frames


def _mono(path: _Path, opened: _Opened) -> Iterator[np.ndarray]:
    """Decode to the mean of the channels, block by block; fail if frames are missing."""
    file, frames = opened.file, 0
    step = max(1, _BLOCK_VALUES // file.channels)
    while frames < opened.frames:
        try:
            asked = min(step, opened.frames - frames)
            block = file.read(asked, dtype="float32", always_2d=True)
        except sf.SoundFileError as error:
            raise _cut_short(
                path, f"or damaged, after {frames} of {opened.frames} frames: {error}"
            ) from error
        if not len(block):
            break
        # NaN and infinity of any channel are kept by the mean.
        with np.errstate(over="ignore", invalid="ignore"):
            mono = block[:, 0] if file.channels == 1 else block.mean(axis=1)
        finite = np.isfinite(mono)
        if not finite.all():
            second = (frames + int(np.argmin(finite))) / file.samplerate
            raise _bad(
                path, f"holds NaN or infinity (first at {second:.3f} s); repair it or leave it out"
            )
        frames += len(block)
        yield mono
    if frames < opened.frames and (file.format != "MP3" or containers.mp3_says_length(opened.raw)):
        raise _cut_short(path, f"{frames} of {opened.frames} frames")
    if file.format == "MP3":
        here = os.lseek(opened.descriptor, 0, os.SEEK_CUR)
        if containers.mp3_goes_on(opened.raw, os.fstat(opened.descriptor).st_size, here):
            raise _bad(
                path,
                f"is longer than its header says ({opened.frames} frames); convert it again",
            )
