"""Windows of codes: what training, validation and scoring feed to the network.

A window predicts the samples start..stop-1 of one recording from its full history, H
past inputs besides the newest; where the history reaches before the recording's first
code it holds start symbols. So a sample's probability is the same in whatever window
it falls.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from wavegen.codecs.codec import Codec, Waveform

# Where a window is shorter than the others of its batch: `torch.nn.functional.cross_entropy`
# leaves targets of this value out by default.
IGNORED = -100
# Samples whose bits are summed together, counted from a recording's first: totals are added up in
# one order, whatever is scored at a time and by how many threads.
SUMMED = 256


def window(waveform: Waveform, start: int, stop: int, history: int, codec: Codec) -> np.ndarray:
    """Codes of samples start - H - 1 to stop - 1, start symbols before the first.

    Args:
        waveform: the whole recording (time,), which may lie on a disk; only the window's
            part is read.
        start: first sample to predict.
        stop: end of the samples to predict.
        history: H of the network.
        codec: makes the codes; the start symbol is the number after the last of them.

    Returns:
        int64 (H + 1 + stop - start,).
    """
    first = start - history - 1
    codes = codec.encode(np.asarray(waveform[max(first, 0) : stop]))
    return from_place(codes, first, codec.codes)


def from_place(codes: np.ndarray, first: int, start_symbol: int) -> np.ndarray:
    """Codes from sample `first` on, int64: start symbols stand before a recording's first."""
    return np.concatenate([np.full(max(-first, 0), start_symbol, dtype=np.int64), codes])


def stack(
    windows: Sequence[np.ndarray], history: int, time: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets of a batch of windows, padded on the right.

    Args:
        windows: each (H + 1 + its samples,) of `window`.
        history: H of the network.
        time: T, samples to pad to; the longest window's if not given.

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
    """Add bits of samples to the sums of `SUMMED` samples each that they belong to.

    Args:
        sums: float64 (..., blocks), changed in place.
        bits: float64 (..., time), of the samples from `begin` on.
        begin: number of the first of these samples.
    """
    first = begin // SUMMED
    edges = np.arange(first * SUMMED, begin + bits.shape[-1], SUMMED)
    sums[..., first : first + len(edges)] += np.add.reduceat(
        bits, np.maximum(edges - begin, 0), axis=-1
    )


def total(sums: np.ndarray, before: np.ndarray | float = 0.0) -> np.ndarray:
    """Sums of `SUMMED` samples each, (K, blocks), added one after another to (K,) `before`."""
    return np.column_stack([np.broadcast_to(before, len(sums)), sums]).cumsum(axis=1)[:, -1]
