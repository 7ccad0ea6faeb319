"""Pictures: those of short recordings whole, those of long ones in bounded memory."""

import io
import tracemalloc

import numpy as np
import pytest
from matplotlib.image import imread

from wavegen.audio import plots
from wavegen.audio.plots import SurprisalPicture, spectrogram_png


def drawn(wave: np.ndarray, bits: np.ndarray, cut: int, most: int | None = None) -> np.ndarray:
    """Pixels (height, width, 4) of a picture that gets its samples so many at a time."""
    picture = SurprisalPicture(8000, most or len(wave))
    for first in range(0, len(wave), cut):
        picture.add(wave[first : first + cut], bits[first : first + cut])
    return imread(io.BytesIO(picture.png("a")))


def noise(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return 0.1 * rng.standard_normal(count).astype(np.float32), rng.uniform(3, 6, count)


@pytest.mark.parametrize("long", [False, True])
def test_a_picture_does_not_depend_on_how_samples_come(long, monkeypatch) -> None:
    if long:
        monkeypatch.setattr(plots, "_WHOLE", 1000)
        monkeypatch.setattr(plots, "_COLUMNS", 20)
    wave, bits = noise(10_001)
    expected = drawn(wave, bits, len(wave))
    for cut in (1234, 5000):
        assert np.array_equal(drawn(wave, bits, cut), expected)


def test_spans_are_shaded_where_they_are() -> None:
    wave, bits = noise(8000)
    picture = SurprisalPicture(8000, len(wave))
    picture.add(wave, bits)
    plain, marked = (imread(io.BytesIO(picture.png("a", spans))) for spans in ([], [(0.45, 0.55)]))
    changed = np.flatnonzero((plain != marked).any(axis=(0, 2)))
    assert 0 < len(changed) < 0.12 * plain.shape[1]
    assert 0.3 < changed.mean() / plain.shape[1] < 0.7


def test_a_picture_in_columns_shows_what_that_of_all_samples_shows(monkeypatch) -> None:
    wave, bits = noise(200_000)
    # A tone, a click, and a silence in which the bits fall.
    wave[40_000:80_000] += 0.3 * np.sin(1.5 * np.arange(40_000)).astype(np.float32)
    wave[120_000] = 1
    wave[150_000:], bits[150_000:] = 0, 0.5
    whole = drawn(wave, bits, len(wave))
    monkeypatch.setattr(plots, "_WHOLE", 1000)
    columns = drawn(wave, bits, 30_000)
    assert whole.shape == columns.shape
    assert not np.array_equal(whole, columns)
    # Brightness of patches of 15 by 15 pixels.
    patches = [each[:540, :690, :3].mean(-1).reshape(36, 15, 46, 15) for each in (whole, columns)]
    one, other = (each.mean(axis=(1, 3)) for each in patches)
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.95


def test_a_long_recording_is_drawn_in_memory_that_does_not_grow(monkeypatch) -> None:
    monkeypatch.setattr(plots, "_WHOLE", 10_000)
    monkeypatch.setattr(plots, "_COLUMNS", 200)
    wave, bits = noise(1 << 15)
    drawn(wave, bits, len(wave))

    def most(blocks: int) -> int:
        picture = SurprisalPicture(8000, blocks * len(wave))
        tracemalloc.start()
        for _ in range(blocks):
            picture.add(wave, bits)
        picture.png("a")
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    # Forty blocks are 16 MB.
    assert most(40) < most(8) + 3e6


def test_a_spectrogram_is_of_any_length() -> None:
    for count in (1, 100, 9000):
        assert imread(io.BytesIO(spectrogram_png(noise(count)[0], 8000, "$a_"))).ndim == 3
