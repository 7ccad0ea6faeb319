"""Windows of codes, the inputs of the network in training, validation and scoring.

A window predicts the samples start..stop-1 of one recording from its full history: the newest
input and the H inputs before it. Before the first code of the recording the history holds start
symbols. So the probability of a sample is the same in every window.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from wavegen.codecs.codec import Codec, Waveform

# Target after the end of a window that is shorter than others of its batch.
# `torch.nn.functional.cross_entropy` ignores targets of this value by default.
IGNORED = -100
# Bits are first summed in groups of this many samples, counted from the first of a recording. So
# the order of additions, and the total, do not depend on blocks and threads.
SUMMED = 256


def window(waveform: Waveform, start: int, stop: int, history: int, codec: Codec) -> np.ndarray:
    """Codes of samples start - H - 1 to stop - 1, start symbols before the first.

    Args:
        waveform: the whole recording (time,), which may be on disk; only the part of the
            window is read.
        start: first sample to predict.
        stop: end of the samples to predict.
        history: H of the network.
        codec: codec of the codes; the start symbol is the number after the last code.

    Returns:
        int64 (H + 1 + stop - start,).
    """
    first = start - history - 1
    codes = codec.encode(np.asarray(waveform[max(first, 0) : stop]))
    return from_place(codes, first, codec.codes)


def from_place(codes: np.ndarray, first: int, start_symbol: int) -> np.ndarray:
    """Codes from sample `first` on, int64; before sample 0 they are start symbols."""
    return np.concatenate([np.full(max(-first, 0), start_symbol, dtype=np.int64), codes])


def stack(
    windows: Sequence[np.ndarray], history: int, time: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets of a batch of windows, padded on the right.

    Args:
        windows: results of `window`, each (H + 1 + number of samples,).
        history: H of the network.
        time: samples T to pad to; by default those of the longest window.

    Returns:
        inputs: int64 (B, H + T).
        targets: int64 (B, T); `IGNORED` where a window has ended.
    """
    if time is None:
        time = max(len(codes) for codes in windows) - history - 1
    sequences = np.zeros((len(windows), history + 1 + time), dtype=np.int64)
    targets = np.full((len(windows), time), IGNORED, dtype=np.int64)
    for row, codes in enumerate(windows):
        sequences[row, : len(codes)] = codes
        targets[row, : len(codes) - history - 1] = codes[history + 1 :]
    return sequences[:, :-1], targets


def regrouped(blocks: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """The same samples (time,), `size` at a time; the last block may be shorter."""
    waiting: list[np.ndarray] = []
    for block in blocks:
        waiting.append(block)
        while (held := sum(map(len, waiting))) >= size:
            whole = np.concatenate(waiting)
            yield whole[:size]
            waiting = [whole[size:]] if held > size else []
    if waiting:
        yield np.concatenate(waiting)


def add_sums(sums: np.ndarray, bits: np.ndarray, begin: int) -> None:
    """Add bits of samples to the sums of their groups of `SUMMED` samples.

    Args:
        sums: float64 (..., groups), changed in place.
        bits: float64 (..., time), bits of the samples from `begin` on.
        begin: number of the first of these samples.
    """
    first = begin // SUMMED
    edges = np.arange(first * SUMMED, begin + bits.shape[-1], SUMMED)
    sums[..., first : first + len(edges)] += np.add.reduceat(
        bits, np.maximum(edges - begin, 0), axis=-1
    )


def total(sums: np.ndarray, before: np.ndarray | float = 0.0) -> np.ndarray:
    """Add sums of groups, (K, groups), one after another to `before`, (K,)."""
    return np.column_stack([np.broadcast_to(before, len(sums)), sums]).cumsum(axis=1)[:, -1]
