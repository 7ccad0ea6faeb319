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
    import librosa
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # About 32 ms a frame, whatever the rate.
    frame = 2 ** round(np.log2(0.032 * sample_rate))
    padded = np.pad(waveform, (0, max(0, frame - len(waveform))))
    magnitudes = np.abs(librosa.stft(padded, n_fft=frame, hop_length=max(1, frame // 8)))
    decibels = librosa.amplitude_to_db(magnitudes, ref=np.max, top_db=80)
    seconds = len(waveform) / sample_rate

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    # Without pyplot no window system is asked for, and no state outlives the call.
    canvas = FigureCanvasAgg(figure)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[1, 2])
    top.plot(np.arange(len(waveform)) / sample_rate, waveform, linewidth=0.5)
    top.set_title(title, parse_math=False)
    # Quiet recordings fill the picture too, silence does not become a wall of noise.
    peak = max(0.05, float(np.abs(waveform).max(initial=0)))
    top.set(ylim=(-peak, peak), xlim=(0, seconds), ylabel="amplitude")
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


def write_spectrogram(path: str | Path, waveform: np.ndarray, sample_rate: int, title: str) -> None:
    """Write `spectrogram_png` to `path`, whole or not at all."""
    write_bytes(path, spectrogram_png(waveform, sample_rate, title))
