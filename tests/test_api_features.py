"""A model with features from Python: training, generating, streaming, resynthesis, scoring."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import small
import soundfile
import torch

import wavegen
from wavegen.codecs import mulaw
from wavegen.commands.main import main
from wavegen.errors import ConfigError
from wavegen.models.serialization import save_model
from wavegen.scoring.likelihood import recording_bits


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> wavegen.Model:
    folder = tmp_path_factory.mktemp("api") / "model"
    save_model(small.network(labels=small.LABELS, features=small.FEATURES), folder)
    return wavegen.load(folder, device="cpu")


@pytest.fixture(scope="module")
def wave() -> np.ndarray:
    return 0.3 * np.random.default_rng(0).standard_normal(700).astype(np.float32)


def test_features_steer_what_is_generated(model: wavegen.Model, wave: np.ndarray) -> None:
    features = model.features(wave)
    assert features.shape == (44, 8)
    made = model.generate(features=features, digit="1", seed=3)
    assert (made.shape, made.dtype) == ((44 * 16,), np.float32)
    assert not np.array_equal(made, model.generate(features=features[::-1], digit="1", seed=3))
    short = model.generate(features=torch.from_numpy(features), digit="1", seed=3, seconds=0.05)
    assert np.array_equal(short, made[:400])
    two = model.generate(features=features, digit="1", seed=3, count=2)
    assert (two[0] == made).mean() > 0.98
    rest = model.generate(features=features, prompt=made[:300], digit="1")
    assert len(rest) == len(made) - 300
    for wrong, says in (
        (features[:, :3], "the model needs"),
        (np.full((2, 8), np.nan), "NaN or infinity"),
        (features[:0], "at least one"),
    ):
        with pytest.raises(ConfigError, match=says):
            model.generate(features=wrong)


def test_a_stream_takes_features_as_they_arrive(model: wavegen.Model, wave: np.ndarray) -> None:
    features = model.features(wave)
    expected = model.generate(features=features, speaker="bob", seed=5)

    def arriving() -> Iterator[np.ndarray]:
        for frame in features:
            yield frame[None]

    chunks = list(model.stream(features=arriving(), speaker="bob", seed=5))
    assert [len(each) for each in chunks[:3]] == [16, 16, 16]
    assert np.array_equal(np.concatenate(chunks), expected)
    with pytest.raises(ConfigError, match="take no prompt"):
        model.stream(features=arriving(), prompt=wave)


def test_recordings_are_resynthesised(
    model: wavegen.Model, wave: np.ndarray, tmp_path: Path
) -> None:
    made = model.resynthesize(wave, digit="2", seed=1)
    assert made.shape == wave.shape
    soundfile.write(tmp_path / "a.wav", wave, 8000, subtype="FLOAT")
    both = model.resynthesize([wave[:333], tmp_path / "a.wav"], digit="2", seed=1)
    assert [len(each) for each in both] == [333, 700]
    # In a batch rounding may decide a draw otherwise.
    assert (both[1] == made).mean() > 0.95
    plain = tmp_path / "plain"
    save_model(small.network(labels=small.LABELS), plain)
    without = wavegen.load(plain, device="cpu")
    with pytest.raises(ConfigError, match=r"train it with --data\.features"):
        without.resynthesize(wave)
    with pytest.raises(ConfigError, match="has no features"):
        without.generate(features=np.zeros((3, 8)))


def test_scores_are_those_under_the_features(
    model: wavegen.Model, wave: np.ndarray, tmp_path: Path, monkeypatch
) -> None:
    network = model.network
    codes = torch.from_numpy(mulaw.encode(wave))[None]
    frames = torch.from_numpy(model.features(wave))[None]
    labels = torch.tensor([[2, 0]])
    expected = float(network.distribution.bits(network(codes, labels, frames), codes).sum())
    assert model.score(wave, digit="1").bits == pytest.approx(expected, rel=1e-5)
    assert recording_bits(network, wave, {"digit": "1"}, 256) == pytest.approx(expected, rel=1e-5)
    unspecified = float(network.distribution.bits(network(codes, labels), codes).sum())
    assert abs(unspecified - expected) > 1
    # A recording that is longer than a block is read whole.
    monkeypatch.setattr("wavegen.scoring.score._LONG", 500)
    assert model.score([wave[:400], wave], digit="1")[1].bits == pytest.approx(expected, rel=1e-5)
    assert set(model.classify(wave).posterior) == {"digit", "speaker"}
    soundfile.write(tmp_path / "a.wav", wave, 8000, subtype="FLOAT")
    assert main(["score", str(model.path), str(tmp_path / "a.wav"), "--label", "digit=1"]) == 0
