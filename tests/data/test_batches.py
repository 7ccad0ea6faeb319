import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from wavegen.codecs import mulaw, windows
from wavegen.codecs.mulaw import MuLaw
from wavegen.data.batches import EpochBatches, TrainingCrops, ValidationWindows, bucket
from wavegen.data.clips import find_clips
from wavegen.data.corpus import Corpus
from wavegen.data.store import open_store
from wavegen.errors import AudioFileError, ConfigError, LabelError

HISTORY = 62


@pytest.fixture
def corpus(tone_folder: Path) -> Corpus:
    store = open_store(find_clips(tone_folder).clips, 8000, progress=False)
    labels = np.arange(1, len(store) + 1)[:, None]
    return Corpus(store, labels, HISTORY + 1, MuLaw())


def test_arrays_in_memory_give_the_batches_of_a_folder(tone_folder, make_network) -> None:
    network = make_network(labels={"label": ("high", "low")})
    found = find_clips(tone_folder)
    store = open_store(found.clips, 8000, progress=False)
    labels = [clip.labels for clip in found.clips]
    waves = [store.waveform(number) for number in range(len(store))]
    as_given = [[*map(float, waves[0])], torch.tensor(waves[1]), *waves[2:]]
    clips = np.arange(len(store))
    for make in (
        lambda corpus: TrainingCrops(corpus, clips, 500, 2, label_dropout=0.5),
        lambda corpus: ValidationWindows(corpus, clips),
    ):
        expected = make(Corpus.of(store, labels, network))
        batches = make(Corpus.from_arrays(as_given, labels, 8000, network))
        assert len(batches) == len(expected)
        for number, batch in enumerate(DataLoader(batches, batch_size=None)):
            assert all(np.array_equal(batch[name], expected[number][name]) for name in batch)
    pair = [{"label": "low"}, {}]
    corpus = Corpus.from_arrays([np.ones(4000, np.int16), np.zeros(50)], pair, 4000, network)
    assert corpus.store.lengths.tolist() == [8000, 100]
    assert corpus.label_ids.tolist() == [[2], [0]]
    assert Corpus.from_arrays(waves[:2], None, 8000, network).label_ids.tolist() == [[0], [0]]


@pytest.mark.parametrize(
    ("clips", "labels", "error", "says"),
    [
        ([np.zeros(9), np.zeros((2, 9))], None, ConfigError, r"clip 1 has shape \(2, 9\)"),
        ([np.zeros(9), np.zeros(0)], None, AudioFileError, "clip 1: holds no samples"),
        ([np.full(9, np.nan)], None, AudioFileError, "clip 0: holds NaN"),
        ([np.zeros(9)], [], ConfigError, "1 clips and 0 labels"),
        ([np.zeros(9)], [{"label": 3}], LabelError, "unknown label '3'"),
    ],
)
def test_arrays_that_make_no_sense_are_refused(make_network, clips, labels, error, says) -> None:
    network = make_network(labels={"label": ("high", "low")})
    with pytest.raises(error, match=says):
        Corpus.from_arrays(clips, labels, 8000, network)


def targets_seen(corpus: Corpus, batches) -> dict[int, list[int]]:
    """Clip -> targets in order, from rows whose label says which clip they are of."""
    seen: dict[int, list[int]] = {}
    for batch in batches:
        rows = (batch[name] for name in ("inputs", "targets", "labels", "clips"))
        for inputs, targets, labels, clips in zip(*rows, strict=True):
            assert clips == labels[0] - 1
            kept = targets[targets != windows.IGNORED]
            # What is predicted is the input one step later.
            history = len(inputs) - len(targets)
            assert history == (0 if batch["beginning"] else HISTORY)
            assert np.array_equal(inputs[history + 1 :][: len(kept) - 1], kept[:-1])
            # From the beginning one start symbol stands for all.
            assert inputs[0] == 256 or history
            seen.setdefault(int(labels[0]) - 1, []).extend(kept.tolist())
    return seen


def test_an_epoch_holds_every_sample_of_every_clip(corpus: Corpus) -> None:
    crops = TrainingCrops(corpus, np.arange(len(corpus.store)), crop=500, batch_size=2)
    batches = [crops[0, number] for number in range(len(crops))]
    seen = targets_seen(corpus, batches)
    for clip in range(len(corpus.store)):
        codes = mulaw.encode(corpus.store.waveform(clip))
        counted = np.bincount(seen[clip], minlength=256)
        # The last batch may be filled up with crops that come twice.
        assert (counted >= np.bincount(codes, minlength=256)).all()
    samples = sum(len(targets) for targets in seen.values())
    assert samples < corpus.store.lengths.sum() + 1000
    padding = sum(int((batch["targets"] == windows.IGNORED).sum()) for batch in batches)
    assert padding < 0.15 * samples


def test_crops_start_from_the_start_symbol_or_from_true_history(corpus: Corpus) -> None:
    pieces = corpus.pieces(np.array([3]), 400)
    length = int(corpus.store.lengths[3])
    assert pieces[0, 1] == 0
    assert pieces[-1, 2] == length
    assert np.array_equal(pieces[1:, 1], pieces[:-1, 2])
    batch = corpus.batch(pieces, 400)
    codes = mulaw.encode(corpus.store.waveform(3))
    assert (batch["inputs"][0, : HISTORY + 1] == 256).all()
    start = int(pieces[1, 1])
    history = batch["inputs"][1, : HISTORY + 1]
    assert np.array_equal(history, codes[start - HISTORY - 1 : start])


def test_the_stream_is_a_function_of_seed_and_step(corpus: Corpus) -> None:
    """Contract C7: a second look, in any order, gives the same batches."""

    def make(seed: int) -> TrainingCrops:
        clips = np.arange(len(corpus.store))
        return TrainingCrops(corpus, clips, 500, 2, label_dropout=0.5, seed=seed)

    one, again, other = make(0), make(0), make(1)
    keys = [(epoch, number) for epoch in range(2) for number in range(len(one))]
    first = {key: one[key] for key in keys}
    for key in reversed(keys):
        for name, tensor in again[key].items():
            assert np.array_equal(tensor, first[key][name])
    assert any(not np.array_equal(other[key]["inputs"], first[key]["inputs"]) for key in keys)
    inputs = [[first[epoch, n]["inputs"].tolist() for n in range(len(one))] for epoch in (0, 1)]
    assert inputs[0] != inputs[1]


def test_labels_are_dropped_as_often_as_asked(corpus: Corpus) -> None:
    """As often alone as all together, so that both can be asked for later."""
    twice = dataclasses.replace(corpus, label_ids=np.repeat(corpus.label_ids, 2, axis=1))
    for chance in (0.0, 0.4, 1.0):
        crops = TrainingCrops(twice, np.arange(12), 100, 16, label_dropout=chance)
        epochs = [(e, n) for e in range(8) for n in range(len(crops))]
        dropped = np.concatenate([crops[key]["labels"] for key in epochs]) == 0
        each = 1 - (1 - chance) ** 0.5
        assert dropped[:, 0].mean() == pytest.approx(chance, abs=0.04)
        assert dropped.all(axis=1).mean() == pytest.approx(each + (1 - each) * each**2, abs=0.04)
        assert (dropped[:, 0] & ~dropped[:, 1]).any() == (0 < chance < 1)


def test_ranks_share_an_epoch(corpus: Corpus) -> None:
    clips = np.arange(len(corpus.store))
    whole = TrainingCrops(corpus, clips, 500, 2)
    parts = [TrainingCrops(corpus, clips, 500, 2, rank=rank, ranks=2) for rank in (0, 1)]
    for number in range(len(parts[0])):
        for rank in (0, 1):
            expected = whole[0, 2 * number + rank]["inputs"]
            assert np.array_equal(parts[rank][0, number]["inputs"], expected)


def test_validation_holds_every_sample_once_whatever_the_ranks(corpus: Corpus) -> None:
    clips = np.array([1, 4, 5])
    for ranks in (1, 2, 7):
        batches = [
            batch
            for rank in range(ranks)
            for dataset in [ValidationWindows(corpus, clips, rank, ranks)]
            for batch in (dataset[n] for n in range(len(dataset)))
        ]
        seen = targets_seen(corpus, batches)
        for clip in clips:
            codes = mulaw.encode(corpus.store.waveform(clip))
            assert np.array_equal(np.sort(seen[clip]), np.sort(codes))


def test_an_epoch_goes_on_after_the_batches_that_are_done() -> None:
    done = 0
    sampler = EpochBatches(4, lambda: done)
    drawn = iter(sampler)
    done = 7
    assert list(drawn) == [(1, 3), (2, 0), (2, 1), (2, 2)]
    assert len(sampler) == 4


@given(
    lengths=st.lists(st.integers(1, 1000), min_size=1, max_size=60),
    samples=st.integers(1, 5000),
    begins=st.integers(0, 60),
)
def test_buckets_lose_nothing_and_pad_little(lengths: list[int], samples: int, begins: int) -> None:
    sizes = np.array(lengths)
    starts = np.where(np.arange(len(sizes)) < begins, 0, 50)
    pieces = np.stack([np.arange(len(sizes)), starts, starts + sizes], axis=1)
    order = np.random.default_rng(0).permutation(len(sizes))
    batches = bucket(pieces, order, 1000, samples)
    together = np.concatenate([chosen for _, chosen in batches])
    assert sorted(together.tolist()) == list(range(len(sizes)))
    for time, chosen in batches:
        assert sizes[chosen].max() <= time <= 1000
        assert len(chosen) == 1 or len(chosen) * time <= samples
    for time, chosen in batches[:-1]:
        assert len(chosen) == max(1, samples // time)
    mixed = [chosen for _, chosen in batches if len(set(starts[chosen])) == 2]
    # Only where the beginnings that are left over go.
    assert len(mixed) <= 8


def test_parts_of_clips_are_covered_once(corpus) -> None:
    parts = np.array([[3, 0, 900], [3, 900, int(corpus.store.lengths[3])], [5, 100, 101]])
    pieces = corpus.pieces(parts, 400)
    assert (pieces[:, 2] - pieces[:, 1]).max() <= 400
    for clip, start, stop in parts.tolist():
        inside = pieces[(pieces[:, 0] == clip) & (pieces[:, 1] >= start) & (pieces[:, 2] <= stop)]
        assert inside[0, 1] == start
        assert inside[-1, 2] == stop
        np.testing.assert_array_equal(inside[1:, 1], inside[:-1, 2])
    whole = np.array([3, 5])
    np.testing.assert_array_equal(
        corpus.pieces(whole, 400), corpus.pieces(corpus.whole(whole), 400)
    )
