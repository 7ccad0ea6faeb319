"""Training with conditions that change with time, from the command line to a resumed run."""

import json
from pathlib import Path

import numpy as np
import pytest
import small
import soundfile
import torch

import wavegen
from wavegen.audio.features import FeatureSet, parse
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
    assert config.feature_set.hop_length == 64
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


@pytest.fixture
def mels(tone_folder: Path, tmp_path: Path) -> Path:
    """A folder with files of the features of every recording, half of them transposed."""
    features = parse("log_mel", 8000)
    for number, clip in enumerate(find_clips(tone_folder).clips):
        path = (tmp_path / "mels" / clip.name).with_suffix(".npy")
        path.parent.mkdir(parents=True, exist_ok=True)
        frames = features.compute(soundfile.read(clip.path, dtype="float32")[0])
        np.save(path, frames.T.astype(np.float64) if number % 2 else frames)
    return tmp_path / "mels"


def test_features_from_files_train_as_computed_ones(
    tone_folder: Path, mels: Path, tmp_path: Path
) -> None:
    for name, more in (("a", ()), ("b", (f"--data.features_from={mels}",))):
        options = ("--run", tmp_path / name, "--data.features=log_mel", *more)
        assert small.train(tone_folder, *options, sizes=OPTIONS) == 0
    assert figures(tmp_path / "b") == figures(tmp_path / "a")
    config = (tmp_path / "b" / "config.yaml").read_text()
    assert "features_from" in config
    assert main(["train", "--resume", str(tmp_path / "b"), "--trainer.max_steps=7"]) == 0


def test_features_that_cannot_be_used_are_left_out(
    tone_folder: Path, mels: Path, tmp_path: Path, capsys
) -> None:
    files = sorted(mels.rglob("*.npy"))
    files[0].unlink()
    np.save(files[1], np.load(files[1])[:, :-20])
    np.save(files[2], np.full_like(np.load(files[2]), np.nan))
    np.save(mels / "stray.npy", np.zeros((3, 3)))
    options = ("--data.features=log_mel", f"--data.features_from={mels}")
    assert small.train(tone_folder, "--run", tmp_path / "a", *options, sizes=OPTIONS) == 0
    said = "".join(capsys.readouterr())
    assert "3 clips without usable features are left out; first:" in said
    assert "1 file of features without a recording: stray.npy" in said
    for more, says in (
        (["--data.on_bad_file=fail"], "has no .npy file"),
        (["--data.trim=40"], "--data.trim moves recordings"),
        ([f"--data.features_from={tmp_path / 'no'}"], "no such folder"),
        ([f"--data.features_from={tone_folder}"], "holds no .npy files"),
    ):
        assert small.train(tone_folder, *options, *more, sizes=OPTIONS) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if "wavegen:" in line]
        assert len(lines) == 1
        assert says in lines[0]
    # No training clip has features, or two recordings have the same file.
    for path in mels.rglob("*.npy"):
        path.rename(mels / "only.npy")
    for folder in ("a", "b"):
        (tmp_path / "twins" / folder).mkdir(parents=True)
        soundfile.write(tmp_path / "twins" / folder / "only.wav", 0.1 * np.ones(1200), 8000)
    for data in (tone_folder, tmp_path / "twins"):
        assert small.train(data, *options, sizes=OPTIONS) == 2
        assert "has no .npy file in" in capsys.readouterr().err
    assert small.train(tone_folder, f"--data.features_from={mels}", sizes=OPTIONS) == 2
    assert "needs --data.features" in capsys.readouterr().err


def test_samples_of_a_validation_are_copies_of_held_out_clips(
    tone_folder: Path, tmp_path: Path, capsys
) -> None:
    run = tmp_path / "run"
    # Enough steps for the features to have an influence.
    steps = ["--trainer.max_steps=60", "--trainer.val_check_interval=60"]
    options = ["--run", run, "--data.features=log_mel", *steps]
    assert small.train(tone_folder, *options, sizes=small.TINY) == 0
    assert f"resynthesize: wavegen resynthesize {run} RECORDINGS" in "".join(capsys.readouterr())
    model = wavegen.load(run, device="cpu")
    held_out = [clip for clip in find_clips(tone_folder).clips if clip.split == "validation"]
    files = sorted((run / "samples" / "step_0000060").glob("*.wav"))
    assert files
    for path in files:
        clip = next(clip for clip in held_out if clip.labels["label"] == path.stem)
        copy = model.resynthesize(clip.path, seed=60, label=path.stem)
        sample = soundfile.read(path, dtype="float32")[0]
        shared = min(len(sample), len(copy))
        assert shared > 500
        # In a batch rounding may decide a draw otherwise.
        assert (np.abs(sample[:shared] - copy[:shared]) < 1e-4).mean() > 0.98
        free = model.generate(seconds=shared / 8000, seed=60, label=path.stem)
        assert (np.abs(sample[:shared] - free) < 1e-4).mean() < 0.95


def test_fused_kernels_take_no_features(tone_folder: Path, capsys) -> None:
    options = ("--data.features=position", "--model.fused=true")
    assert small.train(tone_folder, *options, sizes=OPTIONS) == 2
    assert "--model.fused: its kernels take no features" in capsys.readouterr().err
