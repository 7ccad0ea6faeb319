"""Training with conditions that change with time, from the command line to a resumed run."""

import json
from pathlib import Path

import pytest
import small
import torch

from wavegen.audio.features import FeatureSet
from wavegen.codecs import mulaw
from wavegen.commands.main import main
from wavegen.data.clips import find_clips
from wavegen.data.store import open_clips
from wavegen.errors import ConfigError
from wavegen.models.serialization import load_config, load_model
from wavegen.training.data_module import AudioDataModule

OPTIONS = [*small.SHORT, "--trainer.max_steps=6", "--trainer.val_check_interval=3"]


def figures(run: Path) -> dict[str, float]:
    return json.loads((run / "best.json").read_text())


def test_a_run_with_features_is_trained_validated_and_resumed(
    tone_folder: Path, tmp_path: Path, capsys
) -> None:
    run = tmp_path / "run"
    features = "--data.features=loudness,position"
    assert small.train(tone_folder, "--run", run, features, sizes=OPTIONS) == 0
    config = load_config(run)
    assert config.feature_set.name == "loudness,position"
    assert config.feature_set.hop_length == 128
    network = load_model(run)
    # Validation gives the bits of whole clips with their features.
    found = find_clips(tone_folder)
    _, store = open_clips(found, 8000)
    bits = samples = 0.0
    for number, clip in enumerate(found.clips):
        if clip.split == "validation":
            wave = store.waveform(number)
            frames = torch.from_numpy(config.feature_set.compute(wave))[None]
            codes = torch.from_numpy(mulaw.encode(wave.copy()))[None]
            label = config.labels["label"].index(clip.labels["label"]) + 1
            logits = network(codes, torch.tensor([[label]]), frames)
            bits += float(network.distribution.bits(logits, codes).sum())
            samples += len(wave)
    assert figures(run)["val_bits"] == pytest.approx(bits / samples, rel=1e-4)
    # The features are normalised by those of the training clips.
    encoder = network.frame_encoder
    assert encoder.fitted
    assert main(["train", "--resume", str(run), "--trainer.max_steps=9"]) == 0
    again = load_model(run)
    assert torch.equal(again.frame_encoder.mean, encoder.mean)
    assert main(["train", "--resume", str(run), "--data.features=position"]) == 2
    error = capsys.readouterr().err
    assert "--data.features is position, but the network has" in error


@pytest.mark.parametrize(
    ("features", "says"),
    [
        ("smell", "'smell' is not known; the kinds are log_mel"),
        ("log_mel:hifigan", "is for 22050 Hz, and this is at 8000 Hz"),
        ("log_mel:best", "is not known; the presets are"),
        ("pitch,pitch", "each kind once"),
    ],
)
def test_wrong_features_are_one_line(tone_folder: Path, capsys, features: str, says: str) -> None:
    assert small.train(tone_folder, f"--data.features={features}", sizes=OPTIONS) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "wavegen:" in line]
    assert len(lines) == 1
    assert says in lines[0]


def test_a_program_gives_the_features_to_its_network(tone_folder: Path) -> None:
    data = AudioDataModule(str(tone_folder), features=["loudness", "position"])
    definitions = data.feature_definitions()
    assert FeatureSet.from_json(definitions).sample_rate == 8000
    network = small.network(labels=data.clip_set.attributes, features=definitions)
    data.match(network)
    assert network.frame_encoder.fitted
    other = AudioDataModule(str(tone_folder), features=["position"])
    with pytest.raises(ConfigError, match="but the network has loudness,position"):
        other.match(network)
