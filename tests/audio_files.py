"""Writes audio files for the tests, sound ones and odd ones."""

import os
from pathlib import Path

import numpy as np
import soundfile as sf


def noise(seconds: float = 0.5, rate: int = 8000, seed: int = 0) -> np.ndarray:
    """Noise at -20 dB, float32 `(time,)`."""
    generator = np.random.default_rng(seed)
    return (0.1 * generator.standard_normal(round(seconds * rate))).astype(np.float32)


def save(
    path: Path, waveform: np.ndarray | None = None, rate: int = 8000, subtype: str | None = None
) -> Path:
    """Write `waveform` (noise if None) in the format of the suffix, making folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, noise(rate=rate) if waveform is None else waveform, rate, subtype=subtype)
    return path


def cut(path: Path, keep: float = 0.5) -> Path:
    """Cut a file short in place."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


def patch(path: Path, offset: int, data: bytes) -> Path:
    """Overwrite bytes of a file in place."""
    content = bytearray(path.read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(bytes(content))
    return path


def claim_flac_frames(path: Path, frames: int) -> Path:
    """Patch the 36-bit frame count in the STREAMINFO of a FLAC."""
    kept = int.from_bytes(path.read_bytes()[18:26], "big") >> 36 << 36
    return patch(path, 18, (kept | frames).to_bytes(8, "big"))


def claim_wav_bytes(path: Path, size: int) -> Path:
    """Patch the size of the data chunk of a WAV."""
    return patch(path, path.read_bytes().index(b"data") + 4, size.to_bytes(4, "little"))


def without_length_tag(path: Path) -> Path:
    """Drop the first frame of an MP3, which carries its length."""
    data = path.read_bytes()
    tag = max(data.find(b"Xing"), data.find(b"Info"))
    path.write_bytes(data[data.index(data[:2], tag) :])
    return path


def contents(folder: Path) -> list[str]:
    """Names in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())


def rename_to_bytes(path: Path, name: bytes) -> Path:
    """Give a file a name of any bytes, in place."""
    return path.rename(path.with_name(os.fsdecode(name)))
