"""Pictures of audio, as PNG files and as arrays."""

import io
from pathlib import Path

import numpy as np

from wavegen.files import write_bytes


def spectrogram_png(waveform: np.ndarray, sample_rate: int, title: str) -> bytes:
    """A PNG of a waveform above its spectrogram, in dB below the loudest point.

    Args:
        waveform: float (time,).
        sample_rate: in Hz.
        title: stands above.
    """
    return _png(waveform, sample_rate, title)


def _png(
    waveform: np.ndarray, sample_rate: int, title: str, surprisal: np.ndarray | None = None
) -> bytes:
    import librosa
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # About 32 ms a frame, whatever the rate.
    frame = 2 ** round(np.log2(0.032 * sample_rate))
    padded = np.pad(waveform, (0, max(0, frame - len(waveform))))
    magnitudes = np.abs(librosa.stft(padded, n_fft=frame, hop_length=max(1, frame // 8)))
    decibels = librosa.amplitude_to_db(magnitudes, ref=np.max, top_db=80)
    seconds = len(waveform) / sample_rate

    panels = 2 if surprisal is None else 3
    figure = Figure(figsize=(7, 2.5 + panels), layout="constrained")
    # Without pyplot no window system is asked for, and no state outlives the call.
    canvas = FigureCanvasAgg(figure)
    ratios = [1] * (panels - 1) + [2]
    top, *middle, bottom = figure.subplots(panels, 1, sharex=True, height_ratios=ratios)
    times = np.arange(len(waveform)) / sample_rate
    top.plot(times, waveform, linewidth=0.5)
    top.set_title(title, parse_math=False)
    # Quiet recordings fill the picture too, silence does not become a wall of noise.
    peak = max(0.05, float(np.abs(waveform).max(initial=0)))
    top.set(ylim=(-peak, peak), xlim=(0, seconds), ylabel="amplitude")
    if surprisal is not None:
        # Single samples are noise; the mean of a window is what stands out.
        window = min(len(surprisal), max(1, round(0.01 * sample_rate)))
        mean = np.convolve(surprisal, np.ones(window) / window, mode="same")
        middle[0].plot(times, surprisal, linewidth=0.3, alpha=0.4)
        middle[0].plot(times, mean, linewidth=1)
        middle[0].set(ylabel="bits", ylim=(0, None))
    picture = bottom.imshow(
        decibels,
        origin="lower",
        aspect="auto",
        cmap="magma",
        extent=(0, len(padded) / sample_rate, 0, sample_rate / 2000),
    )
    bottom.set(xlabel="seconds", ylabel="kHz", xlim=(0, seconds))
    figure.colorbar(picture, ax=bottom, label="dB")
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return buffer.getvalue()


def surprisal_png(
    waveform: np.ndarray, surprisal: np.ndarray, sample_rate: int, title: str
) -> bytes:
    """A PNG of a waveform, its surprisal in bits per sample, and its spectrogram.

    Args:
        waveform: float (time,).
        surprisal: float (time,), bits of every sample.
        sample_rate: in Hz.
        title: stands above.
    """
    return _png(waveform, sample_rate, title, surprisal)


def write_spectrogram(path: str | Path, waveform: np.ndarray, sample_rate: int, title: str) -> None:
    """Write `spectrogram_png` to `path`, whole or not at all."""
    write_bytes(path, spectrogram_png(waveform, sample_rate, title))
