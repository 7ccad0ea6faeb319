"""Batches of codes: shuffled crops of the training clips, and all of the validation clips."""

from collections.abc import Callable, Iterator, Sized

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler, SequentialSampler

from wavegen.data import labels as labelling
from wavegen.data.corpus import Batch, Corpus

# Number of different lengths that batches are padded to.
_BUCKETS = 8
# Samples predicted at a time without gradients: in a row, and in all rows of a batch.
_VALIDATION_WINDOW = 2**13
_VALIDATION_SAMPLES = 2**15


class TrainingCrops(Dataset[Batch]):
    """All crops of the training clips, in an order that is a function of (seed, epoch).

    Args:
        corpus: the clips.
        clips: the clips to train on, as in `Corpus.pieces`.
        crop: largest number of samples in a row.
        batch_size: rows of that length in a batch; a batch of shorter rows has more.
        label_dropout: probability that an attribute of a row, or its features, are left
            unspecified, half of the time alone and half of the time together with all others.
        seed: seed of the order and of label dropout.
        rank: number of this process; each process has its own batches.
        ranks: number of processes.
    """

    def __init__(
        self,
        corpus: Corpus,
        clips: np.ndarray,
        crop: int,
        batch_size: int,
        label_dropout: float = 0.0,
        seed: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.corpus = corpus
        self.crop = crop
        self.samples = batch_size * crop
        self.label_dropout = label_dropout
        self.seed = seed
        self.rank = rank
        self.ranks = ranks
        self.pieces = corpus.pieces(clips, crop)
        self._epoch = -1
        self._batches: list[tuple[int, np.ndarray]] = []
        self._windows = np.empty(0, dtype=np.int64)
        self._ahead = -1

    def __len__(self) -> int:
        # The same in every epoch, since it depends only on the lengths of the crops.
        return max(1, len(self._plan(0)[0]) // self.ranks)

    def __getitem__(self, key: tuple[int, int] | int) -> Batch:
        # Samplers of Lightning, for example of `overfit_batches`, give a plain number.
        epoch, number = key if isinstance(key, tuple) else (0, key)
        if epoch != self._epoch:
            self._epoch, self._ahead = epoch, -1
            self._batches, self._windows = self._plan(epoch)
        # Counted over all ranks, so that the draws do not depend on the number of ranks.
        number = number * self.ranks + self.rank
        place = number % len(self._batches)
        self._look_ahead(place)
        time, chosen = self._batches[place]
        batch = self.corpus.batch(self.pieces[chosen], time)
        chance = _generator(self.seed, epoch, number + 1)
        rows, attributes = batch["labels"].shape
        # One attribute is left out alone, or all of them, since generation needs both cases.
        share = 1 - (1 - self.label_dropout) ** 0.5
        dropped = chance.random((rows, attributes + 1)) < share
        together = dropped[:, attributes]
        dropped = dropped[:, :attributes] | together[:, None]
        batch["labels"][torch.from_numpy(dropped)] = labelling.UNSPECIFIED
        if "frames" in batch:
            # Features are left out alone, or together with all labels.
            alone = chance.random(rows) < share
            batch["frames"][torch.from_numpy(alone | together)] = torch.nan
        return batch

    def _look_ahead(self, place: int) -> None:
        """At the start of a window, fetch what it and the next one need."""
        window = int(self._windows[place])
        if window != self._ahead:
            self._ahead = window
            stop = int(np.searchsorted(self._windows, window + 1, side="right"))
            coming = [chosen for _, chosen in self._batches[place:stop]]
            self.corpus.store.prefetch(self.pieces[np.concatenate(coming)])

    def _plan(self, epoch: int) -> tuple[list[tuple[int, np.ndarray]], np.ndarray]:
        """The batches of an epoch, and the window of each, ascending.

        The crops of a window of the store are shuffled among themselves.
        """
        chance = _generator(self.seed, epoch)
        order = chance.permutation(len(self.pieces))
        # A generator of its own, so that the order is the same if there is one window only.
        window = self.corpus.store.windows(self.pieces, np.random.default_rng([self.seed, epoch]))
        order = order[np.argsort(window[order], kind="stable")]
        batches = bucket(self.pieces, order, self.crop, self.samples)
        time, last = batches[-1]
        # The last batch is filled with crops that have been used already.
        filled = np.resize(np.concatenate([last, order[::-1]]), _rows(self.samples, time))
        batches[-1] = (time, filled)
        latest = np.array([window[chosen].max() for _, chosen in batches])
        shuffled = chance.permutation(len(batches))
        shuffled = shuffled[np.argsort(latest[shuffled], kind="stable")]
        return [batches[number] for number in shuffled], latest[shuffled]


class ValidationWindows(Dataset[Batch]):
    """Batches that cover clips once; with n ranks, each has every n-th batch.

    Args:
        corpus: the clips.
        clips: the clips to cover, as in `Corpus.pieces`.
        rank: number of this process.
        ranks: number of processes.
    """

    def __init__(self, corpus: Corpus, clips: np.ndarray, rank: int = 0, ranks: int = 1) -> None:
        self.corpus = corpus
        longest = _VALIDATION_WINDOW
        if corpus.receptive_field is None:
            # Clips are not cut, since the state depends on the whole clip before.
            longest = int(corpus.store.lengths.max(initial=1))
        self.pieces = corpus.pieces(clips, longest)
        order = np.arange(len(self.pieces))
        batches = bucket(self.pieces, order, longest, _VALIDATION_SAMPLES)
        # A rank without windows has an empty batch, since all ranks must take part.
        self.batches = batches[rank::ranks] or [(1, order[:0])]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> Batch:
        time, chosen = self.batches[number]
        pieces = self.pieces[chosen]
        return self.corpus.batch(pieces, time, warm_up=int(pieces[:, 1].max(initial=0)))


class EpochBatches(Sampler[tuple[int, int]]):
    """The next `length` keys (epoch, batch) after those that training has done.

    So a resumed run continues with the next batch, also within an epoch.

    Args:
        length: number of batches in an epoch.
        done: returns the number of batches that training has taken so far.
    """

    def __init__(self, length: int, done: Callable[[], int]) -> None:
        self.length = length
        self.done = done

    def __iter__(self) -> Iterator[tuple[int, int]]:
        first = self.done()
        for number in range(first, first + self.length):
            yield divmod(number, self.length)

    def __len__(self) -> int:
        return self.length


class UntilStopped(SequentialSampler):
    """The numbers of all items, until training is to stop.

    Args:
        data: the items.
        stopping: returns whether to stop; called before each number.
    """

    def __init__(self, data: Sized, stopping: Callable[[], bool]) -> None:
        super().__init__(data)
        self.stopping = stopping

    def __iter__(self) -> Iterator[int]:
        for number in range(len(self)):
            if self.stopping():
                return
            yield number


def bucket(
    pieces: np.ndarray, order: np.ndarray, longest: int, samples: int
) -> list[tuple[int, np.ndarray]]:
    """Group pieces of similar length into batches with similar numbers of samples.

    So there is little padding and every step costs the same. There are few shapes, for each of
    which libraries prepare a kernel. Beginnings of clips, which have no history, are not mixed
    with other pieces.

    Args:
        pieces: int64 (pieces, 3): clip, start and stop.
        order: order in which to take the pieces.
        longest: greatest length of a piece.
        samples: samples in a batch, including padding.

    Returns:
        (time, pieces) of each batch: the length to pad to, and the pieces. Every piece is in one
        batch, and all batches but the last are full. The number of batches does not depend on
        the order.
    """
    grain = -(-longest // _BUCKETS)
    lengths = pieces[:, 2] - pieces[:, 1]
    classes = -(-lengths[order] // grain)
    begins = pieces[order, 1] == 0
    batches, left = [], order[:0]
    for beginning in (True, False):
        kind = begins == beginning
        # Pieces that do not fill a batch join the next longer ones. The last beginnings join pieces
        # with a history; theirs consists of start symbols.
        for number in range(1, _BUCKETS + 1):
            time = min(number * grain, longest)
            rows = _rows(samples, time)
            left = np.concatenate([left, order[kind & (classes == number)]])
            fit = lengths[left] <= time
            full = int(fit.sum()) // rows * rows
            batches += [(time, part) for part in left[fit][:full].reshape(-1, rows)]
            left = np.concatenate([left[fit][full:], left[~fit]])
    if len(left):
        batches.append((longest, left))
    return batches


def _rows(samples: int, time: int) -> int:
    return max(1, samples // time)


def _generator(seed: int, epoch: int, number: int = 0) -> np.random.Generator:
    """Random numbers that are a function of their arguments."""
    key = np.array([seed, epoch], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, number, 0]))
