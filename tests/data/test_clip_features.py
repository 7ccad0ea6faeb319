"""Features of clips: kept with a store or computed, and aligned with every crop to the sample."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small
import torch

from wavegen.audio.features import FeatureSet
from wavegen.codecs.windows import IGNORED
from wavegen.data import clip_features as module
from wavegen.data.batches import TrainingCrops, ValidationWindows
from wavegen.data.clip_features import ComputedFrames, frames_of_clips, statistics
from wavegen.data.clips import find_clips
from wavegen.data.corpus import Batch, Corpus, condition_of
from wavegen.data.settings import DataSettings
from wavegen.data.store import AudioStore, open_clips
from wavegen.engines.reference_scorer import surprisal
from wavegen.errors import DataError

FEATURES = FeatureSet.from_json(small.FEATURES)


@pytest.fixture
def store(tone_folder: Path, tmp_path: Path) -> AudioStore:
    _, made = open_clips(find_clips(tone_folder, DataSettings()), 8000, tmp_path / "store")
    return made


def corpus_of(store: Any, **fields: object) -> tuple[Any, Corpus]:
    network = small.network(labels={"label": ("high", "low")}, features=small.FEATURES, **fields)
    kinds = [{"label": name.split("/")[0]} for name in store.names]
    return network, Corpus.of(store, kinds, network)


def bits_of(network: Any, batch: Batch) -> torch.Tensor:
    """Bits (B, T) of the targets of a batch."""
    inputs, targets, condition = batch["inputs"], batch["targets"], condition_of(batch)
    return surprisal(network, inputs, targets, condition, batch["beginning"], batch["first"])


def test_frames_are_computed_once_and_kept_with_the_store(store, monkeypatch) -> None:
    frames = frames_of_clips(FEATURES, store)
    expected = [FEATURES.compute(store.waveform(clip)) for clip in range(len(store))]
    for clip, each in enumerate(expected):
        assert np.array_equal(frames(clip)[:], each)
        assert np.array_equal(ComputedFrames(FEATURES, store.waveform(clip))[3:7], each[3:7])
    (file,) = store.folder.glob("features-*.f32")
    monkeypatch.setattr(module._KeptFrames, "_write", lambda _: pytest.fail("computed again"))
    again = pickle.loads(pickle.dumps(frames_of_clips(FEATURES, store)))
    assert np.array_equal(again(5)[:], expected[5])
    monkeypatch.undo()
    file.write_bytes(file.read_bytes()[:-4])
    assert np.array_equal(frames_of_clips(FEATURES, store)(5)[:], expected[5])
    mean, deviation = statistics(frames, [0, 3], FEATURES.size)
    both = np.concatenate([expected[0], expected[3]])
    np.testing.assert_allclose(mean, both.mean(0), rtol=1e-6)
    np.testing.assert_allclose(deviation, both.std(0), rtol=1e-5, atol=1e-6)


def test_without_room_frames_are_computed_when_they_are_read(store, monkeypatch) -> None:
    monkeypatch.setattr(module._KeptFrames, "_write", lambda _: None)
    frames = frames_of_clips(FEATURES, store)
    assert isinstance(frames(2), ComputedFrames)
    assert np.array_equal(frames(2)[:], FEATURES.compute(store.waveform(2)))


def test_features_that_are_not_finite_are_refused(store, monkeypatch) -> None:
    bad = np.full((1, FEATURES.size), np.nan, np.float32)
    monkeypatch.setattr(FeatureSet, "compute", lambda *_: bad)
    with pytest.raises(DataError, match=r"0\.wav: its features are not finite"):
        frames_of_clips(FEATURES, store)


@pytest.mark.parametrize("crop", [37, 500, 4000])
def test_crops_have_the_bits_of_whole_clips(store, crop: int) -> None:
    """Every crop has its frames, to the sample: in mid-clip, at clip ends and beyond."""
    network, corpus = corpus_of(store)
    expected = []
    for clip in range(len(store)):
        codes = torch.from_numpy(network.config.codec.encode(store.waveform(clip).copy()))[None]
        frames = torch.from_numpy(FEATURES.compute(store.waveform(clip)))[None]
        logits = network(codes, torch.from_numpy(corpus.label_ids[clip : clip + 1]), frames)
        expected.append(network.distribution.bits(logits, codes)[0].numpy())
    crops = TrainingCrops(corpus, np.arange(len(store)), crop, batch_size=3)
    seen = 0
    for number in range(0, len(crops), 5):
        time, chosen = crops._plan(0)[0][number]
        batch = crops[0, number]
        bits = bits_of(network, batch)
        assert bits.shape[1] == time
        for row, (clip, start, stop) in enumerate(crops.pieces[chosen].tolist()):
            np.testing.assert_allclose(
                bits[row, : stop - start].numpy(), expected[clip][start:stop], atol=3e-4
            )
            assert (batch["targets"][row, stop - start :] == IGNORED).all()
            seen += 1
    assert seen
    total = sum(
        bits_of(network, batch).sum() for batch in ValidationWindows(corpus, np.arange(len(store)))
    )
    assert float(total) == pytest.approx(sum(each.sum() for each in expected), rel=1e-5)


def test_features_are_dropped_alone_and_with_the_labels(store) -> None:
    _, corpus = corpus_of(store)
    clips = np.arange(len(store))
    crops = TrainingCrops(corpus, clips, 100, batch_size=40, label_dropout=0.5)
    kept = TrainingCrops(corpus, clips, 100, batch_size=40)
    found = []
    for number in range(len(crops)):
        batch, whole = crops[0, number], kept[0, number]
        unspecified = batch["frames"].isnan().flatten(1).all(1)
        assert torch.equal(unspecified, batch["frames"].isnan().flatten(1).any(1))
        assert torch.equal(batch["frames"][~unspecified], whole["frames"][~unspecified])
        found += zip(unspecified.tolist(), (batch["labels"][:, 0] == 0).tolist(), strict=True)
    shares = {pair: found.count(pair) / len(found) for pair in set(found)}
    # Of four rows about one has only its features, one only its labels, and so on.
    assert len(shares) == 4
    assert sum(found_both[0] for found_both in found) / len(found) == pytest.approx(0.5, abs=0.1)


def test_a_network_learns_from_features(store) -> None:
    from wavegen.training.lightning_module import LitModel

    network, corpus = corpus_of(store)
    network = type(network)(network.config)
    mean, deviation = statistics(corpus.frames, range(len(store)), FEATURES.size)
    network.fit_features(torch.from_numpy(mean), torch.from_numpy(deviation))
    network.fit_features(torch.zeros(FEATURES.size), torch.ones(FEATURES.size))
    np.testing.assert_allclose(network.frame_encoder.mean.numpy(), mean, rtol=1e-6)
    module = LitModel(network.train())
    batch = TrainingCrops(corpus, np.arange(len(store)), 400, batch_size=4)[0, 0]
    before = module.loss(batch)
    before.backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(20):
        optimiser.zero_grad()
        module.loss(batch).backward()
        optimiser.step()
    assert module.loss(batch) < before - 0.5
