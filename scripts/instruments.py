"""A labelled data set made on the spot: four instruments, several pitches, 8 kHz."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from wavegen import audio

SAMPLE_RATE = 8000
SECONDS = 0.6
# MIDI numbers of A3, C4, E4 and A4.
PITCHES = (57, 60, 64, 69)
VARIATIONS = 12
# Every recording has the noise of a room, and every model the noise of its codes.
ROOM_NOISE = 0.02

Note = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def flute(time: np.ndarray, hertz: float, rng: np.random.Generator) -> np.ndarray:
    """Nearly a sine, with vibrato."""
    phase = 2 * np.pi * hertz * time + 0.3 * np.sin(2 * np.pi * 5 * time + rng.uniform(0, 6))
    return np.sin(phase) + 0.1 * np.sin(2 * phase)


def reed(time: np.ndarray, hertz: float, rng: np.random.Generator) -> np.ndarray:
    """Odd harmonics, sustained, as of a clarinet in its low register."""
    phase = 2 * np.pi * hertz * time + rng.uniform(0, 6)
    harmonics = [number for number in range(1, 16, 2) if number * hertz < SAMPLE_RATE / 2]
    return sum(np.sin(n * phase) / n**0.7 for n in harmonics)


def plucked(time: np.ndarray, hertz: float, rng: np.random.Generator) -> np.ndarray:
    """A string that is plucked and dies away (Karplus and Strong 1983)."""
    period = round(SAMPLE_RATE / hertz)
    string = rng.uniform(-1, 1, period)
    tone = np.empty(len(time))
    for start in range(0, len(time), period):
        tone[start : start + period] = string[: len(time) - start]
        string = 0.996 * (0.5 * string + 0.5 * np.roll(string, 1))
    return tone


def shaker(time: np.ndarray, hertz: float, rng: np.random.Generator) -> np.ndarray:
    """Bright noise in strokes; the pitch sets how fast they come."""
    noise = np.diff(rng.standard_normal(len(time) + 1))
    strokes = (time * hertz / 40) % 1
    return noise * np.exp(-4 * strokes)


INSTRUMENTS: dict[str, Note] = {note.__name__: note for note in (flute, reed, plucked, shaker)}


def write_instruments(folder: Path) -> None:
    """Write `folder/INSTRUMENT/PITCH_VARIATION.wav`, the same at every call."""
    time = np.arange(round(SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    for number, (name, note) in enumerate(INSTRUMENTS.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for pitch in PITCHES:
            for variation in range(VARIATIONS):
                rng = np.random.default_rng([number, pitch, variation])
                hertz = 440 * 2 ** ((pitch - 69) / 12)
                waveform = note(time, hertz, rng)
                waveform *= rng.uniform(0.4, 0.8) / np.abs(waveform).max()
                waveform += ROOM_NOISE * rng.standard_normal(len(time))
                path = folder / name / f"{pitch}_{variation}.wav"
                audio.write(path, waveform.astype(np.float32), SAMPLE_RATE)
