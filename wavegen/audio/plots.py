"""Pictures of audio, as PNG files and as arrays."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wavegen.utils.files import write_bytes
from wavegen.utils.text import display

# The longest recording whose every sample is drawn, and about the most columns of longer ones.
_WHOLE, _COLUMNS = 1 << 18, 2000


def spectrogram_png(waveform: np.ndarray, sample_rate: int, title: str) -> bytes:
    """A PNG of a waveform above its spectrogram, in dB below the loudest point.

    Args:
        waveform: float (time,).
        sample_rate: in Hz.
        title: stands above.
    """
    return _png(_whole(waveform, sample_rate), sample_rate, title)


class SurprisalPicture:
    """A waveform, its surprisal in bits per sample, and its spectrogram, taken block by block.

    A long recording is drawn in some hundreds of columns, each from its least to its greatest
    value. Peaks stay visible, and memory does not grow with the length.

    Args:
        sample_rate: in Hz.
        most: largest number of samples that the recording may have.
    """

    def __init__(self, sample_rate: int, most: int) -> None:
        self._sample_rate = sample_rate
        self._long = most > _WHOLE
        # A column consists of whole windows, and is never shorter than a frame.
        window = _window(sample_rate)
        self._column = -(-max(_frame(sample_rate), -(-most // _COLUMNS)) // window) * window
        self._columns: list[_Columns] = []
        self._samples = 0
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, waveform: np.ndarray, surprisal: np.ndarray) -> None:
        """Add the next samples, float (time,), and their bits, float (time,)."""
        self._samples += len(waveform)
        self._waiting.append((waveform, surprisal))
        if self._long:
            wave, bits = self._taken()
            whole = len(wave) - len(wave) % self._column
            for first in range(0, whole, self._column):
                part = slice(first, first + self._column)
                self._columns.append(_columns(wave[part], bits[part], self._sample_rate))
            self._waiting = [(wave[whole:], bits[whole:])]

    def png(self, title: str, spans: Sequence[tuple[float, float]] = ()) -> bytes:
        """A PNG of all added samples below the title, with `spans` (seconds) shaded."""
        wave, bits = self._taken()
        if not self._long:
            return _png(_whole(wave, self._sample_rate, bits), self._sample_rate, title, spans)
        columns = self._columns
        if len(wave):
            columns = [*columns, _columns(wave, bits, self._sample_rate)]
        middles = (np.arange(len(columns)) + 0.5) * self._column / self._sample_rate
        drawn = _Drawn(
            seconds=self._samples / self._sample_rate,
            times=np.repeat(middles, 2),
            waveform=np.concatenate([each.waveform for each in columns]),
            magnitudes=np.stack([each.magnitudes for each in columns], axis=1),
            reach=len(columns) * self._column / self._sample_rate,
            surprisal=np.concatenate([each.surprisal for each in columns]),
            mean=np.concatenate([each.mean for each in columns]),
        )
        return _png(drawn, self._sample_rate, title, spans)

    def _taken(self) -> tuple[np.ndarray, np.ndarray]:
        waves, bits = zip(*self._waiting, strict=True)
        return np.concatenate(waves), np.concatenate(bits)


@dataclass(frozen=True)
class _Drawn:
    """The lines and points of a picture; lines are (points,), at `times`.

    Args:
        seconds: length of the recording.
        times: in seconds.
        waveform: line.
        magnitudes: of the spectrogram (bins, columns).
        reach: seconds that the columns of the spectrogram cover.
        surprisal: line of the surprisal of every sample, if it is drawn.
        mean: line of the mean surprisal of short windows.
    """

    seconds: float
    times: np.ndarray
    waveform: np.ndarray
    magnitudes: np.ndarray
    reach: float
    surprisal: np.ndarray | None = None
    mean: np.ndarray | None = None


class _Columns(NamedTuple):
    """The least and greatest value of some samples, and the greatest of each frequency."""

    waveform: np.ndarray
    surprisal: np.ndarray
    mean: np.ndarray
    magnitudes: np.ndarray


def _columns(wave: np.ndarray, bits: np.ndarray, sample_rate: int) -> _Columns:
    import librosa

    window, frame = _window(sample_rate), _frame(sample_rate)
    whole = len(bits) // window * window
    means = bits[:whole].reshape(-1, window).mean(axis=1) if whole else bits.mean(keepdims=True)
    padded = np.pad(wave, (0, max(0, frame - len(wave))))
    spectrum = librosa.stft(padded, n_fft=frame, hop_length=frame // 2, center=False)

    def ends(values: np.ndarray) -> np.ndarray:
        return np.array([values.min(), values.max()])

    return _Columns(ends(wave), ends(bits), ends(means), np.abs(spectrum).max(axis=1))


def _whole(waveform: np.ndarray, sample_rate: int, surprisal: np.ndarray | None = None) -> _Drawn:
    """Every sample of a short recording."""
    import librosa

    frame = _frame(sample_rate)
    padded = np.pad(waveform, (0, max(0, frame - len(waveform))))
    mean = None
    if surprisal is not None:
        # Single samples are noisy, so the mean of a window is drawn too.
        window = min(len(surprisal), _window(sample_rate))
        mean = np.convolve(surprisal, np.ones(window) / window, mode="same")
    return _Drawn(
        seconds=len(waveform) / sample_rate,
        times=np.arange(len(waveform)) / sample_rate,
        waveform=waveform,
        magnitudes=np.abs(librosa.stft(padded, n_fft=frame, hop_length=max(1, frame // 8))),
        reach=len(padded) / sample_rate,
        surprisal=surprisal,
        mean=mean,
    )


def _frame(sample_rate: int) -> int:
    """Samples of about 32 ms, whatever the rate."""
    return int(2 ** round(np.log2(0.032 * sample_rate)))


def _window(sample_rate: int) -> int:
    return max(1, round(0.01 * sample_rate))


def _png(
    drawn: _Drawn, sample_rate: int, title: str, spans: Sequence[tuple[float, float]] = ()
) -> bytes:
    import librosa
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    decibels = librosa.amplitude_to_db(drawn.magnitudes, ref=np.max, top_db=80)
    panels = 2 if drawn.surprisal is None else 3
    figure = Figure(figsize=(7, 2.5 + panels), layout="constrained")
    # Without pyplot no window system is needed, and no state outlives the call.
    canvas = FigureCanvasAgg(figure)
    ratios = [1] * (panels - 1) + [2]
    top, *middle, bottom = figure.subplots(panels, 1, sharex=True, height_ratios=ratios)
    top.plot(drawn.times, drawn.waveform, linewidth=0.5)
    top.set_title(display(title), parse_math=False)
    # Quiet recordings fill the picture too, but silence is not drawn as loud noise.
    peak = max(0.05, float(np.abs(drawn.waveform).max(initial=0)))
    top.set(ylim=(-peak, peak), xlim=(0, drawn.seconds), ylabel="amplitude")
    if drawn.surprisal is not None:
        middle[0].plot(drawn.times, drawn.surprisal, linewidth=0.3, alpha=0.4)
        middle[0].plot(drawn.times, drawn.mean, linewidth=1)
        middle[0].set(ylabel="bits", ylim=(0, None))
    for panel in (top, *middle):
        for begin, end in spans:
            panel.axvspan(begin, end, color="tab:red", alpha=0.25, linewidth=0)
    picture = bottom.imshow(
        decibels,
        origin="lower",
        aspect="auto",
        cmap="magma",
        extent=(0, drawn.reach, 0, sample_rate / 2000),
    )
    bottom.set(xlabel="seconds", ylabel="kHz", xlim=(0, drawn.seconds))
    figure.colorbar(picture, ax=bottom, label="dB")
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return buffer.getvalue()


def write_spectrogram(path: str | Path, waveform: np.ndarray, sample_rate: int, title: str) -> None:
    """Write `spectrogram_png` to `path`, whole or not at all."""
    write_bytes(path, spectrogram_png(waveform, sample_rate, title))
