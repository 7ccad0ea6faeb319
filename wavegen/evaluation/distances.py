"""Distances between sets of recordings, computed from log-mel statistics.

They are distances between spectra. Unlike the Frechet audio distance they use no features of a
network that was trained on other audio.

Sources: Dowson & Landau 1982 (Frechet distance of normal distributions); Gretton et al. 2012
and Binkowski et al. 2018 (unbiased kernel distance, cubic kernel).
"""

import numpy as np

# Points in time to which a spectrum is resampled when single clips are compared.
_POINTS = 16


def statistics(spectrum: np.ndarray) -> np.ndarray:
    """Mean and deviation over time of each mel band, (2 * mels,), of `log_mel`."""
    return np.concatenate([spectrum.mean(axis=0), spectrum.std(axis=0)])


def shape(spectrum: np.ndarray) -> np.ndarray:
    """A `log_mel` resampled to a fixed number of points in time, (points * mels,)."""
    at = np.linspace(0, len(spectrum) - 1, _POINTS)
    frames = np.arange(len(spectrum))
    return np.concatenate([np.interp(at, frames, band) for band in spectrum.T])


def frechet(one: np.ndarray, other: np.ndarray) -> float:
    """Squared Frechet distance of the normal distributions fitted to two sets (N, D).

    It is biased upwards for small sets, so compare it only between sets of the same size.
    """
    covariances = [np.cov(each, rowvar=False) for each in (one, other)]
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    between = np.linalg.eigvalsh(root @ covariances[1] @ root)
    gap = one.mean(axis=0) - other.mean(axis=0)
    traces = sum(np.trace(each) for each in covariances)
    return float(gap @ gap + traces - 2 * np.sqrt(np.maximum(between, 0)).sum())


def kernel(one: np.ndarray, other: np.ndarray) -> float:
    """Squared kernel distance (MMD) of two sets (N, D), unbiased: about 0 for similar sets."""

    def products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def within(a: np.ndarray) -> float:
        matrix = products(a, a)
        return float((matrix.sum() - np.trace(matrix)) / (len(a) * (len(a) - 1)))

    return within(one) + within(other) - 2 * float(products(one, other).mean())


def nearest(rows: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Distance (N,) of each row (N, D) to the nearest row of `among` (M, D)."""
    squares = (rows**2).sum(1)[:, None] + (among**2).sum(1)[None, :] - 2 * rows @ among.T
    return np.sqrt(np.maximum(squares.min(axis=1), 0))


def divergence(one: np.ndarray, other: np.ndarray) -> float:
    """Jensen-Shannon divergence in bits of two histograms (Q,): 0 if equal, 1 if disjoint."""
    shares = [each / max(1, each.sum()) for each in (one, other)]
    middle = (shares[0] + shares[1]) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = [np.where(share > 0, share * np.log2(share / middle), 0) for share in shares]
    return float(sum(term.sum() for term in terms) / 2)
