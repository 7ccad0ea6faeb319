"""Training end to end on a folder of tones, and what a run folder holds afterwards."""

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from wavegen.checkpoint import load_config, load_model
from wavegen.cli import main
from wavegen.clips import find_clips
from wavegen.likelihood import order0_entropy, recording_bits
from wavegen.runs import WholeCheckpoints, one_of_each_class
from wavegen.store import open_store
from wavegen.training import ExponentialMovingAverage

TINY = [
    "--model.network.layers=8",
    "--model.network.stacks=2",
    "--model.network.residual_channels=12",
    "--model.network.gate_channels=24",
    "--model.network.skip_channels=24",
    "--model.learning_rate=0.01",
    "--model.warmup_steps=5",
    "--data.crop=400",
    "--data.batch_size=4",
    "--trainer.precision=32-true",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
]


def train(*options: object, sizes: Sequence[str] = TINY) -> int:
    return main(["train", *map(str, options), *sizes])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of two kinds of tones, and a run of 160 steps on it."""
    from conftest import write_tones

    home = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WAVEGEN_CACHE", str(home / "cache"))
        write_tones(home / "tones")
        limits = ["--trainer.max_steps=160", "--trainer.val_check_interval=40"]
        assert train(home / "tones", "--run", home / "run", *limits) == 0
    return home / "tones", home / "run"


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_folder_holds_all_it_should(trained: tuple[Path, Path]) -> None:
    _, run = trained
    assert (run / "config.yaml").is_file()
    assert sorted(path.name for path in (run / "model").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert list((run / "tensorboard").glob("events.out.tfevents.*"))
    config = load_config(run)
    assert config.sample_rate == 8000
    assert config.labels == {"label": ("high", "low")}
    last = run / "samples" / "step_0000160"
    assert {path.name for path in last.iterdir()} == {
        f"{name}{suffix}" for name in ("high", "low") for suffix in (".wav", ".png")
    }
    assert soundfile.info(last / "low.wav").samplerate == 8000
    assert not list(run.rglob("*.part"))


def test_validation_is_exact_and_stands_beside_its_baselines(trained) -> None:
    """The logged figure is that of the model that was written, over every held-out sample."""
    tones, run = trained
    validated = [row for row in rows(run) if row["val_bits"]]
    assert len(validated) == 4
    assert all(float(row["uniform_bits"]) == 8 for row in validated)
    clips = find_clips(tones)
    store = open_store(clips.clips, 8000, progress=False)
    by_split = {"train": [], "validation": []}
    for number, clip in enumerate(clips.clips):
        by_split[clip.split].append((store.waveform(number), clip.labels))
    order0 = order0_entropy([waveform for waveform, _ in by_split["train"]], 256)
    assert float(validated[-1]["order0_bits"]) == pytest.approx(order0, rel=1e-6)
    network = load_model(run)
    bits = sum(recording_bits(network, *recording) for recording in by_split["validation"])
    samples = sum(len(waveform) for waveform, _ in by_split["validation"])
    best = min(float(row["val_bits"]) for row in validated)
    assert bits / samples == pytest.approx(best, rel=1e-5)
    assert best < order0 - 1


def test_the_resolved_config_trains_again(trained, tmp_path: Path) -> None:
    _, run = trained
    again = tmp_path / "again"
    options = ["--config", run / "config.yaml", "--run", again, "--trainer.max_steps=2"]
    assert main(["train", *map(str, options)]) == 0
    assert load_config(again) == load_config(run)


def test_resuming_goes_on_from_the_last_step(trained, tmp_path: Path) -> None:
    import shutil

    _, run = trained
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    assert main(["train", "--resume", str(copy), "--trainer.max_steps=164"]) == 0
    steps = [int(row["step"]) for row in rows(copy)]
    assert min(steps) >= 160
    assert torch.load(copy / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 164
    assert [path.name for path in copy.glob("metrics*.csv")] != ["metrics.csv"]


def test_a_run_folder_is_never_written_over(trained, capsys) -> None:
    tones, run = trained
    before = (run / "config.yaml").read_text()
    assert train(tones, "--run", run) == 2
    assert "already holds files; choose another --run" in capsys.readouterr().err
    assert (run / "config.yaml").read_text() == before


def test_generating_from_the_run_follows_the_label(trained, tmp_path: Path) -> None:
    """The classes of a trained model sound different, and as they should."""
    _, run = trained
    options = ["--each", "label", "--count", "3", "--seconds", "0.1", "--temperature", "0.7"]
    assert main(["generate", str(run), *options, "--out", str(tmp_path)]) == 0
    centres = {}
    for name in ("low", "high"):
        waves = [soundfile.read(tmp_path / f"{name}_0_{index}.wav")[0] for index in range(3)]
        spectrum = np.mean([np.abs(np.fft.rfft(wave)) ** 2 for wave in waves], axis=0)
        centres[name] = np.fft.rfftfreq(800, 1 / 8000)[spectrum.argmax()]
    assert centres["low"] < 450 < centres["high"]


def test_every_trainer_flag_works(trained, tmp_path: Path) -> None:
    tones, _ = trained
    options = [
        "--trainer.max_epochs=1",
        "--trainer.limit_train_batches=2",
        "--trainer.logger=false",
    ]
    assert train(tones, "--run", tmp_path / "run", *options) == 0
    assert (tmp_path / "run" / "model" / "config.json").is_file()
    limited = ["--trainer.max_time=00:00:00:03", "--trainer.val_check_interval=1000"]
    assert train(tones, "--run", tmp_path / "timed", *limited) == 0
    values = [float(row["lr-AdamW/pg1"]) for row in rows(tmp_path / "timed") if row["lr-AdamW/pg1"]]
    assert values[-1] < 0.3 * max(values), "the cosine follows the clock"


def test_one_file_is_enough_and_says_what_it_means(tmp_path: Path, capsys) -> None:
    (tmp_path / "one").mkdir()
    soundfile.write(tmp_path / "one" / "a.wav", 0.1 * np.ones(300), 8000)
    assert train(tmp_path / "one", "--run", tmp_path / "run", "--trainer.max_steps=2") == 0
    assert "no clips are held out" in capsys.readouterr().out
    assert (tmp_path / "run" / "samples" / "step_0000002" / "any.wav").is_file()


def test_checkpoints_load_no_code(tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Evil:
        def __reduce__(self):
            return (Path.touch, (canary,))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        WholeCheckpoints().load_checkpoint(tmp_path / "evil.ckpt")
    assert not canary.exists()


def test_a_checkpoint_appears_whole(tmp_path: Path, monkeypatch) -> None:
    target = tmp_path / "a.ckpt"
    checkpoints = WholeCheckpoints()
    checkpoints.save_checkpoint({"step": 1}, target)
    monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save_checkpoint({"step": 2}, target)
    assert checkpoints.load_checkpoint(target) == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_the_average_forgets_the_start_and_then_has_its_horizon() -> None:
    average = ExponentialMovingAverage(0.9)._kwargs["multi_avg_fn"]
    mean = [torch.zeros(3)]
    average(mean, [torch.ones(3)], 0)
    assert mean[0].tolist() == pytest.approx([0.9] * 3)
    mean = [torch.zeros(3)]
    for step in range(1000, 1010):
        average(mean, [torch.ones(3)], step)
    assert mean[0].tolist() == pytest.approx([1 - 0.9**10] * 3)


def test_samples_show_every_class_of_every_attribute() -> None:
    kinds = one_of_each_class({"digit": tuple("0123456789"), "speaker": ("a", "b", "c")})
    assert len(kinds) == 10
    assert {kind["digit"] for kind in kinds} == set("0123456789")
    assert {kind["speaker"] for kind in kinds} == {"a", "b", "c"}
    assert one_of_each_class({}) == [{}]
    assert len(one_of_each_class({"label": tuple(map(str, range(1000)))})) == 12


def test_metrics_are_numbers(trained) -> None:
    _, run = trained
    for row in rows(run):
        assert all(math.isfinite(float(value)) for value in row.values() if value)
    assert json.loads((run / "model" / "config.json").read_text())["layers"] == 8
