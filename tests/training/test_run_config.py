"""The config of a run from elsewhere: settings are taken over, code is not run."""

import json
import os
import shutil
import time
from datetime import date
from pathlib import Path

import pytest
import yaml
from small import SHORT

from wavegen.commands.main import main
from wavegen.errors import ModelError
from wavegen.training.run_config import read_config
from wavegen.training.run_folder import CONFIG


@pytest.fixture
def run(short_run: Path, tmp_path: Path) -> Path:
    """A copy of a run of two steps."""
    return shutil.copytree(short_run, tmp_path / "run")


def changed(run: Path, name: str, value: object) -> None:
    """Set one setting of a run, whose name has dots."""
    file = run / CONFIG
    settings = yaml.safe_load(file.read_text())
    *groups, last = name.split(".")
    inner = settings
    for group in groups:
        inner = inner[group]
    inner[last] = value
    file.write_text(yaml.safe_dump(settings))


def made(path: object, **arguments: object) -> dict[str, object]:
    return {"class_path": path, "init_args": arguments}


def test_settings_keep_their_order(run: Path) -> None:
    labels = {"speaker": ["theo", "ann"], "digit": ["1", "0"]}
    settings = {"model": {"network": {"labels": labels}}, "data": {"seed": 0}}
    (run / CONFIG).write_text(yaml.safe_dump(settings, sort_keys=False))
    # As JSON, for dictionaries are equal in any order.
    assert json.dumps(yaml.safe_load(read_config(run))) == json.dumps(settings)


HOSTILE = {
    "a class by itself": ("trainer.callbacks", "evilmod.Evil"),
    "a class in a list": ("trainer.callbacks", [made("evilmod.Evil")]),
    "a function": ("trainer.callbacks", [made("pytorch_lightning.callbacks.LambdaCallback")]),
    "a logger": ("trainer.logger", made("pytorch_lightning.loggers.CSVLogger", save_dir="out")),
    "a profiler": ("trainer.profiler", made("AdvancedProfiler", dirpath="out", filename="x")),
    "a profiler by name": ("trainer.profiler", "evilmod.Evil"),
    "a strategy": ("trainer.strategy", made("evilmod.Evil")),
    "a strategy by name": ("trainer.strategy", "evilmod.Evil"),
    "a plugin": ("trainer.plugins", [made("evilmod.Evil")]),
    "another module": ("model", made("evilmod.Evil")),
    "a network in a file": ("model.network", "network.yaml"),
    "a trainer in a file": ("trainer", "network.yaml"),
    "labels in a file": ("data.labels", "network.yaml"),
    "a further config": ("config", "network.yaml"),
    "a key that appends": ("trainer.callbacks+", "evilmod.Evil"),
    "a registry": ("trainer.model_registry", "evil/model"),
    "an optimizer": ("optimizer", made("evilmod.Evil")),
    "a number that is a list": ("model.learning_rate", [1]),
    "a label that is no text": (
        "model.network.labels",
        {"label": [made("evilmod.Evil")]},
    ),
    "a date": ("seed_everything", date(2020, 1, 1)),
}


@pytest.mark.parametrize(("name", "value"), HOSTILE.values(), ids=HOSTILE)
def test_the_config_of_a_run_makes_no_objects(
    name: str, value: object, run: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    canary = tmp_path / "canary"
    code = f"import pathlib\npathlib.Path({str(canary)!r}).touch()\nclass Evil: pass\n"
    (tmp_path / "evilmod.py").write_text(code)
    (tmp_path / "network.yaml").write_text("layers: 2\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    changed(run, name, value)
    before = sorted(tmp_path.rglob("*"))
    assert main(["train", "--resume", str(run), "--trainer.max_steps=3"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(run / CONFIG) in line
    assert name.split(".")[0 if name.endswith("+") else -1] in line
    assert sorted(tmp_path.rglob("*")) == before
    assert not canary.exists()


def test_yaml_that_grows_or_makes_objects_is_refused_at_once(run: Path, capsys) -> None:
    text = (run / CONFIG).read_text()
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    for hostile in (
        text + "\n".join(levels),
        text.replace("trainer:", "trainer: &t"),
        text + "x: !!python/object/apply:os.system ['touch canary']",
        text + "x: !y 1",
        text + "x: " + "[" * 100_000,
        text + "x: " + "{a: " * 30 + "1" + "}" * 30,
        text + "#" * (1 << 20),
        text + "x: \x00",
        "- 1",
        "",
        "trainer: [",
    ):
        (run / CONFIG).write_text(hostile)
        began = time.process_time()
        assert main(["train", "--resume", str(run)]) == 2
        # It would take hours.
        assert time.process_time() - began < 20
        (line,) = capsys.readouterr().err.splitlines()
        assert str(run / CONFIG) in line
    assert not Path("canary").exists()
    (run / CONFIG).unlink()
    os.mkfifo(run / CONFIG)
    with pytest.raises(ModelError, match="not a regular file"):
        read_config(run)


@pytest.mark.parametrize(
    "options",
    [
        ["--trainer.precision=bf16-mixed", "--trainer.deterministic=warn", "--seed_everything=3"],
        ["--trainer.max_time=00:01:00:00", "--trainer.val_check_interval=00:00:10:00"],
        ['--trainer.max_time={"hours": 1}', "--trainer.profiler=simple"],
        ["--trainer.devices=1", "--trainer.strategy=ddp", "--trainer.num_nodes=1"],
        ["--trainer.logger=true", "--trainer.limit_train_batches=0.9", "--trainer.strategy=auto"],
        ["--trainer.gradient_clip_algorithm=norm", "--model.optimizer=adamw", "--ema_decay=0"],
        ["--data.labels=[a]", r"--data.label_pattern=(?P<a>\d)\.", "--model.learning_rate=1e-5"],
        ["--data.store=our store", "--trainer.default_root_dir=/tmp/x y", "--data.trim=40"],
        ["--trainer.enable_checkpointing=false", "--trainer.accumulate_grad_batches=2"],
    ],
    ids=" ".join,
)
def test_all_plain_options_come_back(
    short_run: Path, tmp_path: Path, monkeypatch, options: list[str]
) -> None:
    """What is parsed from a run's config is what wrote it, whatever was said."""
    from wavegen.training.train import train

    monkeypatch.chdir(tmp_path)
    names = {option.split("=")[0] for option in options}
    sizes = [option for option in SHORT if option.split("=")[0] not in names]
    run = tmp_path / "run"
    data = str(short_run.parent / "tones")
    if any(option.startswith("--data.label") for option in options):
        data = str(shutil.copytree(data, tmp_path / "tones"))
    try:
        train([data, "--run", str(run), "--trainer.max_steps=1", *sizes, *options])
    finally:
        settings = yaml.safe_load((run / CONFIG).read_text())
    assert yaml.safe_load(read_config(run)) == settings
    assert main(["train", "--resume", str(run)]) == 0
    assert yaml.safe_load((run / CONFIG).read_text()) == settings


def test_class_names_of_any_kind_come_back(run: Path) -> None:
    names = [
        "1e5",
        "012",
        "no",
        "null",
        "~",
        "a: b",
        "é\U0001f600",
        "x\ny",
        "-",
        "2020-01-01",
        "a.b",
    ]
    labels = {"label": names, "1": ["yes"], "a.b c": ["!x", "&x", "*x"]}
    changed(run, "model.network.labels", labels)
    assert yaml.safe_load(read_config(run))["model"]["network"]["labels"] == labels


def test_objects_of_the_user_are_given_again(run: Path, tmp_path: Path, capsys) -> None:
    theirs = tmp_path / "theirs.yaml"
    callback = made("pytorch_lightning.callbacks.EarlyStopping", monitor="val_bits")
    theirs.write_text(json.dumps({"trainer": {"callbacks": [callback], "max_steps": 3}}))
    options = ["train", "--resume", str(run)]
    # The run has it in its config from then on.
    assert main([*options, "--config", str(theirs)]) == 0
    assert "EarlyStopping" in (run / CONFIG).read_text()
    capsys.readouterr()
    assert main([*options, "--trainer.max_steps=5"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"wavegen train --resume {run} --config YOURS.yaml" in line
    assert main([*options, "--config", str(theirs), "--trainer.max_steps=5"]) == 0
    assert "EarlyStopping" in (run / CONFIG).read_text()
    assert main([*options, "--trainer.callbacks=null", "--trainer.max_steps=6"]) == 0
    assert "EarlyStopping" not in (run / CONFIG).read_text()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_nodes", 2),
        ("accumulate_grad_batches", 0),
        ("accumulate_grad_batches", 2**70),
        ("val_check_interval", 0),
        ("max_time", "99999999999:00:00:00"),
        ("max_time", "{'x': 1}"),
        ("max_time", {"seconds": -5}),
        ("log_every_n_steps", -1),
        ("profiler", "xla"),
    ],
)
def test_a_setting_that_cannot_be_is_one_line(
    run: Path, monkeypatch, capsys, name: str, value: object
) -> None:
    for variable in ("NODE_RANK", "GROUP_RANK"):
        monkeypatch.delenv(variable, raising=False)
    # Without the refusal this would wait for the other node.
    monkeypatch.setattr("wavegen.training.train.only_training", None)
    changed(run, f"trainer.{name}", value)
    before = sorted(run.rglob("*"))
    assert main(["train", "--resume", str(run), "--trainer.max_steps=3"]) == 2
    (line,) = [each for each in capsys.readouterr().err.splitlines() if "wavegen: " in each]
    assert f"--trainer.{name} is {value if name != 'max_time' else ''}" in line
    assert sorted(run.rglob("*")) == before
