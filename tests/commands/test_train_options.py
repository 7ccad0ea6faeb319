"""The short help of `wavegen train` agrees with its parser; short forms mean what they say."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from wavegen.commands import train_options
from wavegen.commands.main import main
from wavegen.errors import ConfigError
from wavegen.training.data_module import AudioDataModule

RECIPES = Path(train_options.__file__).parents[1] / "recipes"


def test_help_is_one_screen(capsys) -> None:
    assert main(["train", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 100
    assert main([]) == 0
    assert len(capsys.readouterr().out.splitlines()) <= 60


def test_help_agrees_with_the_parser(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help-all"])
    shown = capsys.readouterr().out
    assert shown.startswith("usage: wavegen train")
    assert "Lightning Trainer command line tool" not in shown
    # Each option, with all that is said of it.
    parts = re.split(r"^  (?:-\w, |-\w \w+, |ARG: +)*--", shown, flags=re.MULTILINE)[1:]
    real = {re.match(r"[\w.-]+", part)[0]: " ".join(part.split()) for part in parts}
    listed = [option for options in train_options.GROUPS.values() for option in options]
    for option in listed:
        said = real[train_options.SHORT.get(option.name, option.name)]
        if re.fullmatch(r"[\d.]+|skip|muon|linear", option.default):
            assert re.search(rf"default: {re.escape(option.default)}\b", said), option
    undotted = {name for name in real if "." not in name}
    assert undotted <= {option.name for option in listed} | train_options.OTHERS


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["F", "--time", "10m"], ["F", "--trainer.max_time=10m"]),
        (["--time=60"], ["--trainer.max_time=60"]),
        (["--steps", "5", "--epochs", "2"], ["--trainer.max_steps=5", "--trainer.max_epochs=2"]),
        (["--data.labels", "digit"], ["--data.labels=[digit]"]),
        (["--data.labels", "digit,speaker"], ["--data.labels=[digit,speaker]"]),
        (["--data.labels=[digit, speaker]"], ["--data.labels=[digit,speaker]"]),
        (["--data.labels", "null"], ["--data.labels=null"]),
        (["--data.labels=[]"], ["--data.labels=[]"]),
        (["--data.crop", "9", "-c", "mine.yaml"], ["--data.crop", "9", "--config=mine.yaml"]),
        (["--help-all"], ["--help"]),
    ],
)
def test_short_forms(given: list[str], expected: list[str]) -> None:
    assert train_options.plain(given) == expected


def settings(capsys, *options: object) -> Any:
    """What a training on such options would be told."""
    with pytest.raises(SystemExit) as stopped:
        main(["train", *map(str, options), "--print_config"])
    assert stopped.value.code == 0
    return yaml.safe_load(capsys.readouterr().out)


def test_a_recipe_is_found_by_its_name(tone_folder, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    crop = yaml.safe_load((RECIPES / "music.yaml").read_text())["data"]["crop"]
    assert settings(capsys, tone_folder, "--config", "music")["data"]["crop"] == crop
    # A folder of recordings may have the name of a recipe; a file of the user goes first.
    (tmp_path / "music").mkdir()
    assert settings(capsys, tone_folder, "--config=music")["data"]["crop"] == crop
    (tmp_path / "music").rmdir()
    (tmp_path / "music").write_text("data: {crop: 77}\ntrainer: {max_time: 1h30m}\n")
    found = settings(capsys, tone_folder, "--config", "music")
    assert found["data"]["crop"] == 77
    assert found["trainer"]["max_time"] == "1h30m"


def test_print_config_decodes_nothing(tone_folder, capsys, monkeypatch) -> None:
    monkeypatch.setattr(AudioDataModule, "decode", None)
    found = settings(capsys, tone_folder, "--time", "10m")
    assert found["trainer"]["max_time"] == "10m"
    assert found["data"]["sample_rate"] == 8000
    assert settings(capsys, tone_folder, "--data.sample_rate=4000")["data"]["crop"] > 0


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("--max_time", "--time"),
        ("--epoch", "--epochs"),
        ("--lr", "--model.learning_rate"),
        ("--sample_rate", "--data.sample_rate"),
        ("--resum", "--resume"),
    ],
)
def test_what_a_misspelled_option_was_meant_to_be(given: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"unknown option {given}: did you mean {meant}\?"):
        train_options.plain(["FOLDER", given, "3"])


def test_a_time_that_is_none(tone_folder, capsys) -> None:
    assert main(["train", str(tone_folder), "--time", "soon"]) == 2
    assert "--time or --trainer.max_time is soon: write a duration" in capsys.readouterr().err
