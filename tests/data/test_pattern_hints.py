"""The label pattern that would fit names of files."""

import re
from pathlib import Path

import audio_files
import pytest

from wavegen.commands.main import main
from wavegen.data.pattern_hints import fitting_pattern


def test_names_of_parts_are_understood() -> None:
    names = ["a/7_theo_0.wav", "a/7_jackson_1.wav", "0_theo_0.wav", "0_jackson_3.wav"]
    pattern = fitting_pattern(names, ["digit", "speaker"])
    assert pattern is not None
    match = re.search(pattern, "7_theo_0.wav")
    assert match is not None
    assert match.groupdict() == {"digit": "7", "speaker": "theo"}
    dashes = [name.replace("_", "-") for name in names]
    assert fitting_pattern(dashes, ["digit"]) == "^(?P<digit>[^-]+)-"


@pytest.mark.parametrize(
    "names",
    [
        ["one.wav", "two.wav"],
        ["a_1.wav", "b_2.wav", "c_3.wav"],
        ["a_x_1.wav", "a_2.wav"],
        ["_x_1.wav", "_x_2.wav"],
        ["7_theo_0.wav"],
    ],
)
def test_names_that_say_nothing(names: list[str]) -> None:
    assert fitting_pattern(names, ["digit", "speaker"]) is None


def test_the_error_of_a_missing_attribute_names_it(tmp_path: Path, capsys) -> None:
    for digit in "07":
        for speaker in ("theo", "jackson"):
            audio_files.save(tmp_path / f"{digit}_{speaker}_0.wav")
    assert main(["info", str(tmp_path), "--data.labels", "digit,speaker"]) == 2
    error = capsys.readouterr().err
    pattern = re.search(r"--data\.label_pattern '(.*)'", error)
    assert pattern is not None, error
    options = ["--data.labels", "digit,speaker", "--data.label_pattern", pattern[1]]
    assert main(["info", str(tmp_path), *options]) == 0
    assert "speaker" in capsys.readouterr().out
