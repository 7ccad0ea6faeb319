"""The short help of `wavegen train` agrees with its parser; short forms mean what they say."""

import re
from pathlib import Path

import pytest

from wavegen.commands import train_options
from wavegen.commands.main import main
from wavegen.errors import ConfigError


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
        (["F", "--time", "10m"], ["F", "--trainer.max_time=00:00:10:00"]),
        (["--time=60"], ["--trainer.max_time=00:00:01:00"]),
        (["--trainer.max_time", "1:00"], ["--trainer.max_time=00:00:01:00"]),
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


def test_a_recipe_is_found_by_its_name(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    [word] = train_options.plain(["--config", "digits"])
    assert Path(word.removeprefix("--config=")).read_text().startswith("# Spoken digits")
    # A folder of recordings may have the name of a recipe; a file of the user goes first.
    (tmp_path / "digits").mkdir()
    assert train_options.plain(["--config", "digits"]) == [word]
    (tmp_path / "digits").rmdir()
    (tmp_path / "digits").write_text("")
    assert train_options.plain(["--config", "digits"]) == ["--config=digits"]


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


def test_a_time_that_is_none() -> None:
    with pytest.raises(ConfigError, match="write a duration such as"):
        train_options.plain(["--time", "soon"])
