import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small import network as small_network

from wavegen.audio.plots import spectrogram_png
from wavegen.commands.main import main
from wavegen.data.clips import find_clips
from wavegen.errors import ConfigError
from wavegen.models.config import WaveNetConfig
from wavegen.models.serialization import save_model
from wavegen.utils.text import display, writable

# What moves the cursor, ends a line, or turns text round.
HARMFUL = "\x1b[2J \x07 \x85 \x9b31m \u2028 \u2029 \u202e \u2066 \u200f \ufeff \u00ad \U000e0041"
KEPT = "Käse \u65e5\u672c \u0645\u06cc\u200c\u062e \U0001f468\u200d\U0001f4bb\ufe0f e\u0301 \u00a0"


def harmless(text: str) -> bool:
    return not set(text) & (set(HARMFUL) - set(" [2Jm31"))


def test_what_could_do_harm_is_shown_by_its_number() -> None:
    assert display("a\x1b\x85\u202eb\U000e0041") == r"a\x1b\x85\u202eb\U000e0041"
    assert harmless(display(HARMFUL))
    assert display(KEPT) == KEPT
    assert display(os.fsdecode(b"a\xe9")) == r"a\udce9"
    for character in map(chr, [*range(0x3100), *range(0xD000, 0x110000, 97)]):
        shown = display(character)
        assert shown == display(shown)
        shown.encode()
        assert len(shown.splitlines()) == 1


def test_what_clips_are_known_by_does_not_change() -> None:
    """The choice of validation clips follows from names, and trained classes are looked up."""
    assert writable("a\u200e\u2028\x85") == "a\u200e\u2028\x85"
    assert writable("a\n\ud800") == r"a\x0a\ud800"


def test_names_from_elsewhere_do_no_harm(tmp_path: Path, capsys) -> None:
    name = HARMFUL.replace("/", "")
    save_model(small_network(labels={"la\u202ebel": (name, "b")}), tmp_path / "model")
    (tmp_path / "data" / name).mkdir(parents=True)
    noise = 0.1 * np.random.default_rng(0).standard_normal(400)
    for number in range(2):
        soundfile.write(tmp_path / "data" / name / f"{name}{number}.wav", noise, 8000)
    (tmp_path / "data" / name / "z,\n\x9b.wav").write_text("")
    model, data = str(tmp_path / "model"), str(tmp_path / "data")
    assert list(find_clips(data).attributes["label"]) == [writable(name)]
    for command in (
        ["info", model],
        ["info", data],
        ["score", model, data],
        ["classify", model, data],
        ["classify", model, data, "--check", "--data.label_pattern", "(?P<label>.)"],
        ["generate", model, "--seconds", "0.01", "--out", str(tmp_path / name), "--label", name],
    ):
        # One of the recordings cannot be read, which those that read them all say by their status.
        assert main(command) == (command[0] in ("score", "classify"))
    for command in (["score", model, data + name], ["generate", model, "--label", HARMFUL + "x"]):
        assert main(command) == 2
    captured = capsys.readouterr()
    assert harmless(captured.out + captured.err)
    assert main(["classify", model, data, "--format", "csv"]) == 1
    text = capsys.readouterr().out
    head, *rows = csv.reader(io.StringIO(text, newline=""))
    assert head == [
        "path",
        "samples",
        "seconds",
        display("la\u202ebel"),
        display("la\u202ebel_probability"),
        "error",
    ]
    assert [len(row) for row in rows] == [6, 6, 6]
    assert text.splitlines() == text.split("\n")[:-1]
    assert rows[0][0] == display(next(iter(sorted((tmp_path / "data" / name).iterdir()))))
    spectrogram_png(noise, 8000, f"{name} $x_$ \ud800")


def test_a_name_that_cannot_be_written_is_refused(tmp_path: Path, capsys) -> None:
    for labels in ({"a": ["\ud800"]}, {"\ud800": ["a"]}):
        with pytest.raises(ConfigError, match="no text in UTF-8"):
            WaveNetConfig(labels=labels)  # type: ignore[arg-type]
    save_model(small_network(labels={"label": ("a", "b")}), tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps({**values, "labels": {"label": ["a", "\ud800"]}}))
    assert main(["generate", str(tmp_path / "model"), "--out", str(tmp_path / "out")]) == 2
    assert "no text in UTF-8" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_cell_of_metadata_holds_any_character(tmp_path: Path) -> None:
    odd = "x\u2028y\x1cz\x85\x0bw"
    rows = [f"{number}.wav,{odd if number else 'b'}\r\n" for number in range(2)]
    text = "file_name,label\r\n" + "".join(rows)
    (tmp_path / "metadata.csv").write_text(text, encoding="utf-8", newline="")
    for number in range(2):
        soundfile.write(tmp_path / f"{number}.wav", np.zeros(400), 8000)
    assert find_clips(tmp_path).attributes == {"label": ("b", writable(odd))}
