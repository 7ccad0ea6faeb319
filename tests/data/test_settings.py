"""How a data set is read, what a model remembers of it, and that others read it alike."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from mutations import survives
from small import network, train

from wavegen.commands.main import main
from wavegen.data.clips import find_clips
from wavegen.data.decoding import trim_ends
from wavegen.data.settings import DataSettings, class_counts, save_training, training_settings
from wavegen.errors import ConfigError, ModelError
from wavegen.evaluation import evaluate
from wavegen.models.serialization import TRAINING, save_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_model(network(labels={"label": ("high", "low")}), tmp_path / "run" / "model")
    return tmp_path / "run" / "model"


@pytest.fixture
def silent_ends(tmp_path: Path) -> Path:
    """Sixteen clips of noise at 8 kHz without labels, half a second of silence at both ends."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(16):
        noise = 0.3 * rng.standard_normal(4000).clip(-3, 3)
        soundfile.write(folder / f"{number:02}.wav", np.pad(noise, 4000), 8000)
    return folder


def score_held_out(model: Path, folder: Path, capsys: Any) -> list[dict[str, Any]]:
    capsys.readouterr()
    options = ["--split", "validation", "--format", "jsonl"]
    assert main(["score", str(model), str(folder), *options]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_settings_survive_json() -> None:
    settings = DataSettings(("digit",), "(?P<digit>.)", 0.25, 30, 7)
    assert DataSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings
    # What version 0.1 wrote.
    old = {"labels": None, "label_pattern": None, "validation_fraction": 0.1}
    assert DataSettings.from_json(old) == DataSettings()


@pytest.mark.parametrize(
    "values",
    [
        [],
        {"folder": "x"},
        {"labels": "digit"},
        {"labels": [1]},
        {"validation_fraction": 0},
        {"trim": -1},
        {"trim": "30"},
        {"seed": 0.5},
    ],
    ids=str,
)
def test_json_that_holds_something_else_is_refused(values: object) -> None:
    with pytest.raises(ValueError, match=r"settings|validation_fraction|trim"):
        DataSettings.from_json(values)


def test_values_outside_their_range_are_refused() -> None:
    for trim in (0, -3, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=r"--data\.trim"):
            DataSettings(trim=trim)
    for fraction in (0, 1, -0.5):
        with pytest.raises(ConfigError, match="validation_fraction"):
            DataSettings(validation_fraction=fraction)


def test_class_counts_and_settings_are_kept_beside_the_model(model: Path) -> None:
    assert training_settings(model) == DataSettings()
    with pytest.raises(ModelError, match="how many clips"):
        class_counts(model)
    settings = DataSettings(labels=("label",), trim=20)
    save_training({"label": {"high": 3, "low": 1}}, settings, model)
    assert class_counts(model) == {"label": {"high": 3, "low": 1}}
    assert training_settings(model.parent) == settings


def test_what_a_model_says_of_its_training_may_be_anything(model: Path) -> None:
    settings = DataSettings(("digit",), "(?P<digit>.)", 0.1, 30)
    save_training({"digit": {"0": 3, "1": 5, "2": 1}}, settings, model)
    file = model / TRAINING
    good = json.loads(file.read_text())

    def read() -> None:
        kept = training_settings(model)
        assert all(isinstance(name, str) for name in kept.labels or ())
        assert isinstance(kept.label_pattern, str | None)
        assert kept.trim is None or kept.trim > 0
        for counts in class_counts(model).values():
            assert sum(counts.values()) >= 0

    assert survives(read, ModelError, file, good, 300) > 150


def test_a_trimmed_model_is_scored_on_what_its_validation_saw(
    silent_ends: Path, tmp_path: Path, capsys
) -> None:
    run = tmp_path / "trained"
    limits = ["--trainer.max_steps=2", "--trainer.val_check_interval=2"]
    assert train(silent_ends, "--run", run, "--data.trim=30", *limits) == 0
    rows = score_held_out(run, silent_ends, capsys)
    bits, samples = (sum(row[name] for row in rows) for name in ("bits", "samples"))
    best = json.loads((run / "best.json").read_text())["val_bits"]
    assert bits / samples == pytest.approx(best, rel=1e-5)


def test_a_trimmed_model_is_evaluated_on_trimmed_clips(
    model: Path, silent_ends: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    settings = DataSettings(trim=30)
    save_training({}, settings, model)
    seen = {}

    def keep(network: object, clip_set: Any, store: Any, **_: object) -> None:
        seen.update(zip((clip.name for clip in clip_set.clips), store.lengths, strict=True))

    monkeypatch.setattr(evaluate, "evaluate", keep)
    command = ["evaluate", str(model), str(silent_ends), "--out", str(tmp_path / "report")]
    assert main(command) == 0
    clips = find_clips(silent_ends, settings).clips
    trimmed = {
        clip.name: len(trim_ends(soundfile.read(clip.path, dtype="float32")[0], 30))
        for clip in clips
    }
    assert max(trimmed.values()) < 12_000
    assert seen == trimmed
    rows = score_held_out(model, silent_ends, capsys)
    assert [row["samples"] for row in rows] == [
        trimmed[clip.name] for clip in clips if clip.split == "validation"
    ]
