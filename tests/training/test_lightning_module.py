"""Training end to end on a folder of tones, and what a run folder holds afterwards."""

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import soundfile
import torch
import yaml
from pytorch_lightning import Callback, Trainer
from small import TINY, train

from wavegen.codecs.counts import CodeCounts
from wavegen.codecs.mulaw import MuLaw
from wavegen.commands.main import main
from wavegen.data.clips import find_clips
from wavegen.data.settings import DataSettings, training_settings
from wavegen.data.store import open_store
from wavegen.errors import ConfigError, ModelError
from wavegen.models.config import WaveNetConfig
from wavegen.models.serialization import load_config, load_model
from wavegen.scoring.likelihood import recording_bits
from wavegen.training.checkpoints import WholeCheckpoints
from wavegen.training.data_module import AudioDataModule
from wavegen.training.divergence import LossWatch
from wavegen.training.lightning_module import LitWaveNet
from wavegen.training.run_folder import one_of_each_class
from wavegen.training.run_folders import choose_run


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
        "training.json",
    ]
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert list((run / "tensorboard").glob("events.out.tfevents.*"))
    shown = yaml.safe_load((run / "tensorboard" / "hparams.yaml").read_text())
    assert (shown["layers"], shown["crop"], shown["learning_rate"]) == (8, 400, 0.01)
    assert training_settings(run) == DataSettings()
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
    counts = CodeCounts(MuLaw())
    for waveform, _ in by_split["train"]:
        counts.add(waveform)
    order0 = counts.figures()["order0_bits"]
    assert float(validated[-1]["order0_bits"]) == pytest.approx(order0, rel=1e-6)
    network = load_model(run)
    bits = sum(recording_bits(network, *recording) for recording in by_split["validation"])
    samples = sum(len(waveform) for waveform, _ in by_split["validation"])
    best = min(float(row["val_bits"]) for row in validated)
    assert bits / samples == pytest.approx(best, rel=1e-5)
    assert best < order0 - 1


def test_the_resolved_config_trains_again(trained, tmp_path: Path) -> None:
    tones, run = trained
    again = tmp_path / "again"
    options = ["--config", run / "config.yaml", "--run", again, "--trainer.max_steps=2"]
    assert f"folder: {tones.absolute()}" in (run / "config.yaml").read_text()
    assert main(["train", *map(str, options)]) == 0
    assert load_config(again) == load_config(run)


@pytest.mark.parametrize(
    ("number", "workers"),
    [
        (signal.SIGTERM, 2),
        (signal.SIGINT, 0),
        pytest.param(signal.SIGTERM, 0, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 2, marks=pytest.mark.slow),
    ],
)
def test_resuming_gives_what_never_stopping_gives(trained, tmp_path: Path, number, workers) -> None:
    """Stopped after 11 of 30 steps, in mid-epoch: the same to the last bit."""
    tones, _ = trained
    limits = ["--trainer.max_steps=30", f"--data.num_workers={workers}"]
    # The schedule must not know of the stop.
    stop = ["--trainer.callbacks+=stopping.StopAt", f"--trainer.callbacks.signal={number}"]
    assert train(tones, "--run", tmp_path / "straight", *limits) == 0
    assert train(tones, "--run", tmp_path / "halves", *limits, *stop) == 128 + number
    halves = tmp_path / "halves"
    at = torch.load(halves / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert at == 11
    earlier = rows(halves)
    assert main(["train", "--resume", str(halves), "--trainer.callbacks=null"]) == 0
    one, other = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)
        for name in ("straight", "halves")
    )
    assert one["global_step"] == other["global_step"] == 30
    for part in ("state_dict", "current_model_state", "optimizer_states", "lr_schedulers"):
        assert_same(one[part], other[part])
    # One file, in which no step is twice.
    assert rows(halves)[: len(earlier)] == earlier
    steps = [row["step"] for row in rows(halves)]
    assert len(set(steps)) == len(steps)
    assert not list(halves.glob("metrics-*.csv"))


def assert_same(one: object, other: object) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert_same(value, other[key])
    elif isinstance(one, list | tuple):
        for value, another in zip(one, other, strict=True):
            assert_same(value, another)
    else:
        assert one == other


class Broken(Callback):
    """Makes the network's output infinite before step 5."""

    def on_train_batch_start(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step == 4:
            with torch.no_grad():
                trainer.lightning_module.network.output.bias[0] = float("inf")


def test_a_loss_that_is_no_number_stops_at_once(trained, tmp_path: Path, capsys) -> None:
    tones, _ = trained
    run = tmp_path / "run"
    limits = ["--trainer.max_steps=30", "--trainer.val_check_interval=2"]
    breaks = f"--trainer.callbacks+={__name__}.Broken"
    assert train(tones, "--run", run, *limits, breaks) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "not finite at step 4; lower --model.learning_rate, or look at" in error
    named = error.split(": ")[-1].split(", ")
    assert 1 <= len(named) <= 8
    assert all((tones / name).is_file() for name in named)
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 4
    assert all(torch.isfinite(each).all() for each in last["state_dict"].values())
    assert json.loads((run / "best.json").read_text())["step"] <= 4
    assert torch.isfinite(load_model(run).output.bias).all()


class Overgrown(Callback):
    """Makes the network sure of what is not so, from step 10 on."""

    def on_train_batch_start(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step >= 10:
            with torch.no_grad():
                trainer.lightning_module.network.hidden.bias.fill_(10)
                trainer.lightning_module.network.output.weight.normal_(std=100)


def test_a_loss_that_stays_above_guessing_stops(trained, tmp_path: Path, capsys) -> None:
    tones, _ = trained
    run = tmp_path / "run"
    limits = ["--trainer.max_steps=150", "--trainer.val_check_interval=10"]
    grows = f"--trainer.callbacks+={__name__}.Overgrown"
    assert train(tones, "--run", run, *limits, grows) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "diverged: by step" in error
    assert "1 bit above guessing, which is 8.0; lower --model.learning_rate" in error
    assert 40 < int(error.split("by step ")[1].split()[0]) < 120
    # The best model is that from before.
    assert json.loads((run / "best.json").read_text())["step"] == 10
    assert load_model(run).output.weight.std() < 1


def test_guessing_for_long_is_no_divergence() -> None:
    watch = LossWatch(9.0)
    for step in range(1000):
        # Now and then a batch beyond all measure.
        watch.look(torch.tensor(1e9 if step % 200 == 0 else 5.6), torch.zeros(2))
        assert watch.seen() == (True, True)
    watch.look(torch.tensor(math.nan), torch.zeros(2))
    assert not watch.seen()[0]


def test_the_last_checkpoint_is_the_last_even_if_another_was_better(tmp_path: Path) -> None:
    """Two notes to learn and noise to be held out: validation soon gets worse."""
    rng = np.random.default_rng(0)
    for split, amplitude in (("train", 0.0), ("validation", 0.3)):
        (tmp_path / "data" / split).mkdir(parents=True)
        for number in range(2):
            noise = amplitude * rng.standard_normal(800)
            soundfile.write(tmp_path / "data" / split / f"{number}.wav", noise, 8000)
    run = tmp_path / "run"
    limits = ["--trainer.max_steps=40", "--trainer.val_check_interval=10"]
    assert train(tmp_path / "data", "--run", run, *limits) == 0
    best = json.loads((run / "best.json").read_text())
    assert best["step"] < 40
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 40
    bits = [float(row["val_bits"]) for row in rows(run) if row["val_bits"]]
    assert best["val_bits"] == pytest.approx(min(bits), rel=1e-5)
    assert bits[-1] > min(bits)


def test_a_resumed_run_can_be_begun_again_elsewhere(trained, tmp_path: Path) -> None:
    tones, run = trained
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    assert main(["train", "--resume", str(copy), "--trainer.max_steps=162"]) == 0
    other = tmp_path / "other"
    shutil.copytree(tones, other)
    again = ["--config", str(copy / "config.yaml"), "--data.folder", str(other)]
    options = ["--run", str(tmp_path / "again"), "--trainer.max_steps=1"]
    assert main(["train", *again, *options]) == 0
    assert str(other) in (tmp_path / "again" / "config.yaml").read_text()


def test_ctrl_c_saves_and_says_how_to_go_on(trained, tmp_path: Path) -> None:
    tones, _ = trained
    run = tmp_path / "run"
    options = ["--run", run, "--trainer.max_steps=100000", "--trainer.val_check_interval=50000"]
    command = [sys.executable, "-m", "wavegen", "train", tones, *options, *TINY]
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 100
    while not any((run / "tensorboard").glob("*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 130
    assert f"stopped; resume by --resume {run}" in errors
    assert "Traceback" not in errors
    step = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert step > 0


@pytest.mark.slow
def test_a_signal_to_one_of_two_processes_ends_both(trained, tmp_path: Path) -> None:
    tones, _ = trained
    run = tmp_path / "run"
    options = ["--run", run, "--trainer.max_steps=100000", "--trainer.val_check_interval=50000"]
    command = [sys.executable, "-m", "wavegen", "train", tones, *options, *TINY]
    process = subprocess.Popen(
        [*map(str, command), "--trainer.devices=2"], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 100
    while not any((run / "tensorboard").glob("*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert f"stopped; resume by --resume {run}" in errors
    step = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert 0 < step < 100000


def test_what_does_not_fit_a_checkpoint_leaves_its_run_as_it_was(
    trained, tmp_path: Path, capsys
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained[1], run)
    before = (run / "config.yaml").read_text()
    resume = ["train", "--resume", str(run), "--trainer.max_steps=161"]
    assert main([*resume, "--model.network.layers=4"]) == 2
    assert "cannot resume from it" in capsys.readouterr().err
    assert (run / "config.yaml").read_text() == before
    assert main([*resume, "--run", str(tmp_path / "other")]) == 2
    assert "a run is resumed in its folder" in capsys.readouterr().err
    assert main(resume) == 0


def test_processes_that_were_begun_together_share_achoose_run(
    trained, tmp_path: Path, monkeypatch
) -> None:
    run = str(trained[1])
    for name in ("RANK", "SLURM_PROCID"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "1")
            assert choose_run(run, "data", None) == Path(run)
            with pytest.raises(ConfigError, match="give --run FOLDER"):
                choose_run(None, "data", None)
            # Only the first of them can tell whether it is new.
            patch.setenv(name, "0")
            with pytest.raises(ConfigError, match="already holds files"):
                choose_run(run, "data", None)


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
    high_over_low = {}
    for name in ("low", "high"):
        waves = [soundfile.read(tmp_path / f"{name}_0_{index}.wav")[0] for index in range(3)]
        power = np.mean([np.abs(np.fft.rfft(wave)) ** 2 for wave in waves], axis=0)
        hertz = np.fft.rfftfreq(800, 1 / 8000)
        high = power[(hertz > 700) & (hertz < 1100)].sum()
        high_over_low[name] = high / power[(hertz > 100) & (hertz < 400)].sum()
    assert high_over_low["high"] > 10 * high_over_low["low"]


@pytest.mark.parametrize(
    "flags",
    [
        ["max_epochs=2"],
        ["max_epochs=1", "limit_train_batches=2", "logger=false"],
        ["max_steps=3", "val_check_interval=0.5"],
        ["max_steps=30", "check_val_every_n_epoch=2"],
        ["max_steps=2", "limit_val_batches=0"],
        ["fast_dev_run=true"],
        ["max_steps=2", "overfit_batches=1"],
        ["max_steps=2", "num_sanity_val_steps=1"],
        ["max_steps=2", "accumulate_grad_batches=2"],
        ["max_steps=2", "enable_checkpointing=false"],
        ["max_steps=2", "precision=bf16-mixed"],
        ["max_steps=2", "precision=bf16-true"],
        ["max_steps=2", "detect_anomaly=true", "gradient_clip_val=null"],
    ],
    ids=" ".join,
)
def test_every_trainer_flag_works(trained, tmp_path: Path, flags: list[str]) -> None:
    tones, _ = trained
    given = [f"--trainer.{flag}" for flag in flags]
    names = {option.split("=")[0] for option in given}
    tiny = [option for option in TINY if option.split("=")[0] not in names]
    assert train(tones, "--run", tmp_path / "run", *given, sizes=tiny) == 0
    assert training_settings(tmp_path / "run").validation_fraction == 0.1


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_muon_moves_the_matrices_between_embedding_and_output(kind: str) -> None:
    module = LitWaveNet(WaveNetConfig(layers=2, stacks=1, labels={"a": ("x",)}), optimizer=kind)
    names = {id(parameter): name for name, parameter in module.network.named_parameters()}
    optimizer = module.configure_optimizers()["optimizer"]
    found = {"muon": set(), "decayed": set(), "other": set()}
    for group in optimizer.param_groups:
        which = "decayed" if group["weight_decay"] else "other"
        found["muon" if group["orthogonal"] else which] |= {names[id(p)] for p in group["params"]}
    between = {"blocks.0.kernel", "blocks.0.projection.weight", "blocks.1.kernel"}
    between |= {"skip.weight", "hidden.weight"}
    assert found["muon"] == (between if kind == "muon" else set())
    assert {"embedding.weight", "output.weight", "gate_bias.weight"} <= found["decayed"]
    assert found["muon"] | found["decayed"] == {
        name for name, parameter in module.network.named_parameters() if parameter.ndim >= 2
    }
    assert sum(map(len, found.values())) == len(names)


def test_the_learning_rate_follows_the_clock(trained, tmp_path: Path) -> None:
    tones, _ = trained
    limit = ["--trainer.max_time=00:00:00:03", "--trainer.val_check_interval=1000"]
    assert train(tones, "--run", tmp_path / "run", *limit) == 0
    logged = rows(tmp_path / "run")
    rates = [float(row["learning_rate"]) for row in logged if row["train_bits"]]
    assert rates[-1] < 0.3 * max(rates)
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert max(last["lr_schedulers"][0]["_last_lr"]) == pytest.approx(0, abs=1e-9)
    # Runs of Lightning's own timer go on from the time that they had taken.
    assert last["callbacks"]["Timer"]["time_elapsed"]["train"] >= 3


class ItsClock(Callback):
    """Lets the interval between validations be over at steps 4 and 7; the last took long at 4."""

    def on_train_batch_start(self, trainer: Trainer, module: LitWaveNet, *_: object) -> None:
        # Lightning's clock says so all the time.
        trainer._last_val_time = -math.inf
        over = trainer.global_step in (3, 6)
        module._validated = time.monotonic() - 4000 if over else math.inf
        module._validation_took = 1100 if trainer.global_step < 6 else 900


def test_validation_by_time_follows_the_clock_that_processes_share(trained, tmp_path: Path) -> None:
    """Lightning's loop asks what the module has set, or this fails."""
    tones, _ = trained
    limits = ["--trainer.max_steps=9", "--trainer.val_check_interval=00:01:00:00"]
    clock = f"--trainer.callbacks+={__name__}.ItsClock"
    assert train(tones, "--run", tmp_path / "run", *limits, clock) == 0
    # The last one is that of the end.
    steps = sorted(path.name for path in (tmp_path / "run" / "samples").iterdir())
    assert steps == ["step_0000007", "step_0000009"]


@pytest.mark.slow
def test_two_processes_follow_one_clock(trained, tmp_path: Path) -> None:
    tones, _ = trained
    options = ["--run", tmp_path / "run", "--trainer.max_time=00:00:00:10", "--trainer.devices=2"]
    command = [sys.executable, "-m", "wavegen", "train", tones, *options, *TINY]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list((tmp_path / "run" / "samples").iterdir())) >= 3
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert max(last["lr_schedulers"][0]["_last_lr"]) == pytest.approx(0, abs=1e-9)


class Settings(Callback):
    """Notes how a GPU would multiply: in training, forward and backward, and in validation."""

    seen: ClassVar[set[tuple[str, bool, bool]]] = set()

    def on_train_start(self, trainer: Trainer, module: LitWaveNet) -> None:
        matmul = torch.backends.cuda.matmul

        def note(where: str) -> None:
            reduced = matmul.allow_bf16_reduced_precision_reduction
            self.seen.add((where, matmul.allow_tf32, reduced))

        embedding = module.network.embedding
        embedding.register_forward_hook(
            lambda *_: note("validation" if trainer.validating else "forward")
        )
        embedding.weight.register_hook(lambda _: note("backward"))


def test_only_training_multiplies_in_tf32(trained, tmp_path: Path) -> None:
    tones, _ = trained
    notes = f"--trainer.callbacks+={__name__}.Settings"
    assert train(tones, "--run", tmp_path / "run", "--trainer.max_steps=2", notes) == 0
    assert Settings.seen == {
        ("forward", True, False),
        ("backward", True, False),
        ("validation", False, True),
    }


@pytest.mark.parametrize("precision", ["bf16-true", "bf16-mixed"])
def test_validation_is_in_float32_whatever_training_is_in(
    trained, tmp_path: Path, precision
) -> None:
    tones, _ = trained
    tiny = [option for option in TINY if not option.startswith("--trainer.precision")]
    options = ["--trainer.max_steps=2", f"--trainer.precision={precision}"]
    run = tmp_path / "run"
    assert train(tones, "--run", run, *options, sizes=tiny) == 0
    clips = find_clips(tones)
    store = open_store(clips.clips, 8000, progress=False)
    network, bits, samples = load_model(run), 0.0, 0
    for number, clip in enumerate(clips.clips):
        if clip.split == "validation":
            bits += recording_bits(network, store.waveform(number), clip.labels)
            samples += len(store.waveform(number))
    validated = json.loads((run / "best.json").read_text())["val_bits"]
    assert validated == pytest.approx(bits / samples, rel=1e-6)


class Fetches(Callback):
    """Notes at which steps a number is fetched from the device for Lightning, or by wavegen."""

    steps: ClassVar[list[int]] = []

    def on_train_start(self, trainer: Trainer, *_: object) -> None:
        self.item, steps = torch.Tensor.item, self.steps
        steps.clear()

        def item(tensor: torch.Tensor) -> object:
            caller = sys._getframe(1).f_code.co_filename
            # The optimiser counts its steps in memory.
            if "torch/optim" not in caller:
                steps.append(trainer.global_step)
            return self.item(tensor)

        torch.Tensor.item = item  # type: ignore[method-assign]

    def on_train_end(self, *_: object) -> None:
        torch.Tensor.item = self.item  # type: ignore[method-assign]


@pytest.mark.parametrize("bar", ["true", "false"])
def test_the_loss_is_fetched_in_twenty_steps_once(
    trained, tmp_path: Path, capsys, monkeypatch, bar
) -> None:
    """Each time the device has to end its work first."""
    monkeypatch.setattr("wavegen.training.progress.on_terminal", lambda: True)
    tones, _ = trained
    few = ["--data.crop=100", "--data.batch_size=2"]
    options = ["--trainer.max_steps=60", *few, f"--trainer.enable_progress_bar={bar}"]
    fetches = f"--trainer.callbacks+={__name__}.Fetches"
    sizes = [each for each in TINY if each.split("=")[0] not in "".join([*few, *options])]
    limit = "--trainer.limit_val_batches=0"
    assert train(tones, "--run", tmp_path / "run", *options, limit, fetches, sizes=sizes) == 0
    assert len(set(Fetches.steps)) in range(3, 8)
    assert ("bits, " in capsys.readouterr().err) == (bar == "true")


@pytest.mark.slow
def test_two_processes_are_one_with_the_same_batches(trained, tmp_path: Path) -> None:
    """Two ranks that average their gradients, or one that adds up two batches a step."""
    tones, _ = trained
    # Validation is counted in batches.
    ways = {
        "two": ["--trainer.devices=2", "--trainer.val_check_interval=6"],
        "one": ["--trainer.accumulate_grad_batches=2", "--trainer.val_check_interval=12"],
    }
    for name, way in ways.items():
        options = ["--run", tmp_path / name, "--trainer.max_steps=12", "--data.crop=200", *way]
        sizes = [option for option in TINY if not option.startswith("--data.crop")]
        command = [sys.executable, "-m", "wavegen", "train", tones, *options, *sizes]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        assert len(list((tmp_path / name / "samples").iterdir())) == 2
    two, one = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)
        for name in ways
    )
    assert two["global_step"] == one["global_step"] == 12
    for name, tensor in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][name], tensor, rtol=1e-4, atol=1e-5)
    # Every held-out sample counts once, whichever rank it falls to.
    figures = [json.loads((tmp_path / name / "best.json").read_text()) for name in ways]
    assert figures[0] == pytest.approx(figures[1], rel=1e-5)


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
    with pytest.raises(ModelError, match=r"evil.ckpt: damaged, or not a checkpoint of tensors"):
        WholeCheckpoints().load_checkpoint(tmp_path / "evil.ckpt")
    assert not canary.exists()


def test_a_checkpoint_appears_whole(tmp_path: Path, monkeypatch) -> None:
    target = tmp_path / "a.ckpt"
    checkpoints = WholeCheckpoints()
    checkpoints.save_checkpoint({"step": 1}, target)
    monkeypatch.setattr(os, "fsync", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save_checkpoint({"step": 2}, target)
    assert checkpoints.load_checkpoint(target) == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_samples_show_every_class_of_every_attribute() -> None:
    kinds = one_of_each_class({"digit": tuple("0123456789"), "speaker": ("a", "b", "c")})
    assert len(kinds) == 10
    assert {kind["digit"] for kind in kinds} == set("0123456789")
    assert {kind["speaker"] for kind in kinds} == {"a", "b", "c"}
    assert one_of_each_class({}) == [{}]
    assert len(one_of_each_class({"label": tuple(map(str, range(1000)))})) == 12


def test_metrics_are_numbers(trained) -> None:
    _, run = trained
    assert len(rows(run)) == 160 // 20
    assert all(row["train_bits"] and row["learning_rate"] for row in rows(run))
    assert sum(bool(row["val_bits"]) for row in rows(run)) == 4
    for row in rows(run):
        assert all(math.isfinite(float(value)) for value in row.values() if value)
    assert json.loads((run / "model" / "config.json").read_text())["layers"] == 8


@pytest.mark.gpu
def test_a_gpu_trains_in_bf16_and_its_run_goes_on_without_one(trained, tmp_path: Path) -> None:
    tones, _ = trained
    run = tmp_path / "run"
    sizes = [o for o in TINY if not o.startswith(("--trainer.precision", "--trainer.accelerator"))]
    assert train(tones, "--run", run, "--trainer.max_steps=3", sizes=sizes) == 0
    assert "precision: bf16-mixed" in (run / "config.yaml").read_text()
    cpu = ["--trainer.accelerator=cpu", "--trainer.max_steps=5"]
    assert main(["train", "--resume", str(run), *cpu]) == 0


def test_a_run_at_its_limit_stays_as_it_is(trained: tuple[Path, Path], tmp_path, capsys) -> None:
    run = shutil.copytree(trained[1], tmp_path / "run")
    kept = {name: (run / name).read_bytes() for name in ("best.json", "model/model.safetensors")}
    assert main(["train", "--resume", str(run)]) == 0
    said = capsys.readouterr().out
    assert "had reached its limit already" in said
    assert "held-out sample" not in said
    assert kept == {name: (run / name).read_bytes() for name in kept}


def test_a_module_comes_back_from_its_checkpoint_with_averaged_weights(trained) -> None:
    _, run = trained
    best = json.loads((run / "best.json").read_text())
    last = LitWaveNet.load_from_checkpoint(run / "checkpoints" / "last.ckpt", learning_rate=1e-3)
    assert (last.network.config, last.learning_rate) == (load_config(run), 1e-3)
    module = LitWaveNet.load_from_checkpoint(run / "checkpoints" / "best.ckpt")
    assert best["val_bits"] > 0
    for name, weight in load_model(run).state_dict().items():
        assert torch.equal(module.network.state_dict()[name], weight)
    assert all(weight.requires_grad for weight in module.parameters())


def test_a_checkpoint_of_an_earlier_version_needs_the_model_beside_it(trained, tmp_path) -> None:
    _, run = trained
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    del checkpoint["network"]
    shutil.copytree(run / "model", tmp_path / "run" / "model")
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    WholeCheckpoints().save_checkpoint(checkpoint, path)
    assert LitWaveNet.load_from_checkpoint(path).network.config == load_config(run)
    shutil.rmtree(tmp_path / "run" / "model")
    with pytest.raises(ModelError, match="does not hold the config"):
        LitWaveNet.load_from_checkpoint(path)
    for change in ({"state_dict": {}}, {"network": "{}"}, {"network": 3}):
        WholeCheckpoints().save_checkpoint({**checkpoint, "network": "", **change}, path)
        with pytest.raises(ModelError, match=r"last.ckpt: (not a checkpoint|it d)"):
            LitWaveNet.load_from_checkpoint(path)
    with pytest.raises(ModelError, match="cannot be read"):
        LitWaveNet.load_from_checkpoint(tmp_path / "none.ckpt")


def test_a_loaded_network_is_trained_further(trained) -> None:
    tones, run = trained
    network = load_model(run)
    module = LitWaveNet(network, learning_rate=1e-4)
    data = AudioDataModule(str(tones), crop=300, batch_size=4)
    data.match(network)
    before = {name: weight.clone() for name, weight in network.named_parameters()}
    trainer = Trainer(
        max_steps=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
    )  # fmt: skip
    trainer.fit(module, data)
    assert module.network is network
    changed = [not torch.equal(before[name], weight) for name, weight in network.named_parameters()]
    assert np.mean(changed) > 0.8
