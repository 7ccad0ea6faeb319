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


def flac(path: Path, samples: np.ndarray, bits: int, block: int = 0) -> Path:
    """Write a FLAC of one channel, of any number of bits, as encoders write it to a pipe.

    Args:
        path: where.
        samples: whole numbers (time,).
        bits: of a sample: 8, 12, 16, 20 or 24.
        block: frames of each; by default their sizes vary.
    """
    parts, start = [], 0
    while start < len(samples):
        size = block or 16 + start % 500
        part = samples[start : start + size].tolist()
        number = start // block if block else start
        header = bytes([0xFF, 0xF8 if block else 0xF9, 0x70])
        header += bytes([{8: 1, 12: 2, 16: 4, 20: 5, 24: 6}[bits] << 1])
        # FLAC writes numbers as UTF-8 does characters.
        header += chr(number).encode("utf-8", "surrogatepass") + (len(part) - 1).to_bytes(2, "big")
        header += bytes([_crc(header, 0x07, 8)])
        plain = "".join(f"{sample % 2**bits:0{bits}b}" for sample in part)
        plain += "0" * (-len(plain) % 8)
        body = header + b"\x02" + int(plain, 2).to_bytes(len(plain) // 8, "big")
        parts.append(body + _crc(body, 0x8005, 16).to_bytes(2, "big"))
        start += size
    sizes = 2 * block.to_bytes(2, "big") if block else bytes([0, 16, 2, 16])
    about = (8000 << 44 | bits - 1 << 36).to_bytes(8, "big")
    info = sizes + bytes(6) + about + bytes(16)
    path.write_bytes(b"fLaC\x80\x00\x00\x22" + info + b"".join(parts))
    return path


def _crc(data: bytes, polynomial: int, bits: int) -> int:
    check = 0
    for byte in data:
        check ^= byte << bits - 8
        for _ in range(8):
            check = check << 1 ^ (polynomial | 1 << bits if check >> bits - 1 else 0)
    return check


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
