"""Synthesises recordings: notes or melodies of instruments as classes, or music without labels.

python scripts/instruments.py FOLDER [--rate 16000] [--melodies] [--music]
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from wavegen.audio import writing

SAMPLE_RATE = 8000
SECONDS = 0.6
# MIDI numbers of A3, C4, E4 and A4.
PITCHES = (57, 60, 64, 69)
VARIATIONS = 12
# Music: number of pieces, beats of a piece, seconds of a beat.
PIECES, BEATS, SECONDS_A_BEAT = 10, 400, 0.25
# Melodies: number for each instrument, notes of a melody, lowest and highest MIDI number.
MELODIES, NOTES, RANGE = 30, 10, (50, 76)
# Amplitude of the noise of the room.
ROOM_NOISE = 0.02

Note = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def flute(time: np.ndarray, hertz: float, rng: np.random.Generator) -> np.ndarray:
    """Nearly a sine, with vibrato."""
    phase = 2 * np.pi * hertz * time + 0.3 * np.sin(2 * np.pi * 5 * time + rng.uniform(0, 6))
    return np.sin(phase) + 0.1 * np.sin(2 * phase)


def reed(time: np.ndarray, hertz: float, rng: np.random.Generator) -> np.ndarray:
    """Sustained odd harmonics, like a clarinet in its low register."""
    phase = 2 * np.pi * hertz * time + rng.uniform(0, 6)
    harmonics = [number for number in range(1, 16, 2) if 2 * number * hertz < 1 / time[1]]
    return sum(np.sin(n * phase) / n**0.7 for n in harmonics)


def plucked(time: np.ndarray, hertz: float, rng: np.random.Generator) -> np.ndarray:
    """A plucked string that decays (Karplus and Strong 1983)."""
    period = round(1 / (time[1] * hertz))
    string = rng.uniform(-1, 1, period)
    tone = np.empty(len(time))
    for start in range(0, len(time), period):
        tone[start : start + period] = string[: len(time) - start]
        string = 0.996 * (0.5 * string + 0.5 * np.roll(string, 1))
    return tone


def shaker(time: np.ndarray, hertz: float, rng: np.random.Generator) -> np.ndarray:
    """Strokes of bright noise; the pitch sets their rate."""
    noise = np.diff(rng.standard_normal(len(time) + 1))
    strokes = (time * hertz / 40) % 1
    return noise * np.exp(-4 * strokes)


INSTRUMENTS: dict[str, Note] = {note.__name__: note for note in (flute, reed, plucked, shaker)}


def write_instruments(folder: Path, rate: int = SAMPLE_RATE) -> None:
    """Write `folder/INSTRUMENT/PITCH_VARIATION.wav`, the same at every call."""
    time = np.arange(round(SECONDS * rate)) / rate
    for number, (name, note) in enumerate(INSTRUMENTS.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for pitch in PITCHES:
            for variation in range(VARIATIONS):
                rng = np.random.default_rng([number, pitch, variation])
                waveform = note(time, _hertz(pitch), rng)
                waveform *= rng.uniform(0.4, 0.8) / np.abs(waveform).max()
                waveform += ROOM_NOISE * rng.standard_normal(len(time))
                path = folder / name / f"{pitch}_{variation}.wav"
                writing.write(path, waveform.astype(np.float32), rate)


def write_melodies(folder: Path, rate: int = SAMPLE_RATE) -> None:
    """Write `folder/INSTRUMENT/MELODY.wav`, the same at every call.

    Pitches, also between semitones, lengths and levels of the notes are random.
    """
    for number, note in enumerate((flute, reed, plucked)):
        (folder / note.__name__).mkdir(parents=True, exist_ok=True)
        for melody in range(MELODIES):
            rng = np.random.default_rng([number, melody])
            parts = []
            for _ in range(NOTES):
                time = np.arange(round(rng.uniform(0.15, 0.6) * rate)) / rate
                sound = note(time, _hertz(rng.uniform(*RANGE)), rng)
                # Without clicks at both ends.
                ends = np.minimum(1, np.minimum(time, time[-1] - time) / 0.01)
                parts.append(rng.uniform(0.1, 0.8) * ends * sound / np.abs(sound).max())
            waveform = np.concatenate(parts)
            waveform += ROOM_NOISE / 10 * rng.standard_normal(len(waveform))
            path = folder / note.__name__ / f"{melody}.wav"
            writing.write(path, waveform.astype(np.float32), rate)


def write_music(folder: Path, rate: int = SAMPLE_RATE) -> None:
    """Write `folder/PIECE.wav`, the same at every call: a plucked melody with a flute."""
    folder.mkdir(parents=True, exist_ok=True)
    beat = round(SECONDS_A_BEAT * rate)
    for piece in range(PIECES):
        rng = np.random.default_rng(piece)
        waveform = np.zeros((BEATS + 8) * beat)
        step = len(_SCALE) // 2
        for number in range(BEATS):
            step = int(np.clip(step + rng.integers(-2, 3), 0, len(_SCALE) - 1))
            _add(waveform, number * beat, plucked, _SCALE[step], 4 * beat, rate, rng)
            if number % 8 == 0:
                _add(waveform, number * beat, flute, _SCALE[step % 5] - 12, 8 * beat, rate, rng)
        waveform *= 0.8 / np.abs(waveform).max()
        waveform += ROOM_NOISE / 10 * rng.standard_normal(len(waveform))
        writing.write(folder / f"{piece}.wav", waveform.astype(np.float32), rate)


# Two octaves of the minor pentatonic scale on A.
_SCALE = tuple(57 + 12 * octave + step for octave in (0, 1) for step in (0, 3, 5, 7, 10))


def _add(
    waveform: np.ndarray,
    start: int,
    note: Note,
    pitch: int,
    length: int,
    rate: int,
    rng: np.random.Generator,
) -> None:
    time = np.arange(length) / rate
    sound = note(time, _hertz(pitch), rng) * np.minimum(1, 8 * (1 - time / time[-1]))
    waveform[start : start + length] += sound / np.abs(sound).max()


def _hertz(pitch: float) -> float:
    return 440 * 2 ** ((pitch - 69) / 12)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--rate", type=int, default=SAMPLE_RATE, help=f"sample rate in Hz (default: {SAMPLE_RATE})"
    )
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--melodies", action="store_true", help="melodies of three instruments")
    kinds.add_argument("--music", action="store_true", help="long pieces without labels")
    options = parser.parse_args()
    if options.rate < 4000:
        parser.error(f"--rate is {options.rate}: it must be 4000 or more")
    if options.folder.exists() and not options.folder.is_dir():
        parser.error(f"{options.folder} is not a folder")
    write = write_music if options.music else write_instruments
    (write_melodies if options.melodies else write)(options.folder, options.rate)
