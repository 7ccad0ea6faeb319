"""Figures of generated clips and of real held-out clips, both compared with training clips."""

from collections.abc import Mapping, Sequence

import numpy as np

from wavegen.audio.mel import log_mel
from wavegen.codecs.codec import Codec
from wavegen.codecs.counts import histogram
from wavegen.evaluation.distances import (
    divergence,
    frechet,
    kernel,
    nearest,
    shape,
    statistics,
)
from wavegen.evaluation.intervals import Figure, bootstrap, half_samples, mean, share_of

# A clip is silent if its level is so many decibels below full scale.
_SILENT = -60.0
# Two clips are the same, except for rounding, if the shapes of their spectra are this near.
_ALIKE = 1e-3


def compared(
    columns: Mapping[str, Sequence[np.ndarray]],
    trained: Sequence[np.ndarray],
    rate: int,
    codec: Codec,
) -> dict[str, dict[str, Figure]]:
    """Figures of each column compared with training clips, by name."""
    reference = _Reference(trained, rate, codec)
    measured = {name: _measured(waves, reference) for name, waves in columns.items()}
    one, other = measured["generated"][1], measured["real"][1]
    result: dict[str, dict[str, Figure]] = {
        figure: {name: figures[figure] for name, (figures, _) in measured.items()}
        for figure in measured["generated"][0]
    }
    # 1 if generated clips are as far from training clips as real ones are, less for copies. Real
    # clips that are also in training, such as silent ones, are left out.
    if np.median(other) > _ALIKE:
        result["nearest_generated_over_real"] = {
            "generated": bootstrap(
                lambda n: float(np.median(one[n]) / max(_ALIKE, np.median(other[n]))), len(one)
            )
        }
    return result


class _Reference:
    """The training clips to compare with, and their scale."""

    def __init__(self, waves: Sequence[np.ndarray], rate: int, codec: Codec) -> None:
        self.rate, self.codec = rate, codec
        spectra = [log_mel(wave, rate) for wave in waves]
        rows = np.stack([statistics(each) for each in spectra])
        self._mean, self._deviation = rows.mean(axis=0), rows.std(axis=0) + 1e-3
        self.rows = self.scaled(rows)
        self.shapes = np.stack([shape(each) for each in spectra])
        self.counts = np.sum([histogram(codec.encode(wave), codec) for wave in waves], axis=0)

    def scaled(self, rows: np.ndarray) -> np.ndarray:
        return (rows - self._mean) / self._deviation


def _measured(
    waves: Sequence[np.ndarray], reference: _Reference
) -> tuple[dict[str, Figure], np.ndarray]:
    """Figures of some clips by name, and the distance of each to the nearest training clip."""
    size = len(waves)
    spectra = [log_mel(wave, reference.rate) for wave in waves]
    rows = reference.scaled(np.stack([statistics(each) for each in spectra]))
    distances = nearest(np.stack([shape(each) for each in spectra]), reference.shapes)
    codec = reference.codec
    counts = np.stack([histogram(codec.encode(wave), codec) for wave in waves])
    figures = {
        "frechet_log_mel": half_samples(lambda n: frechet(rows[n], reference.rows), size),
        "kernel_log_mel": half_samples(lambda n: kernel(rows[n], reference.rows), size),
        "code_divergence": half_samples(
            lambda n: divergence(counts[n].sum(axis=0), reference.counts), size
        ),
        "silent_clips": share_of([decibels(wave) < _SILENT for wave in waves]),
        "clipped_samples": mean([float(np.mean(np.abs(wave) > 0.99)) for wave in waves]),
        "offset": mean([abs(float(wave.mean())) for wave in waves]),
        "nearest_training_clip": bootstrap(lambda n: float(np.median(distances[n])), size),
    }
    return figures, distances


def decibels(wave: np.ndarray) -> float:
    return 10 * float(np.log10(np.mean(np.square(wave, dtype=np.float64)) + 1e-10))
