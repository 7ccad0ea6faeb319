"""`wavegen generate`: names of files, pictures, prompts, seeds and suggestions."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from small import LABELS

from wavegen.commands.main import main
from wavegen.models.serialization import save_model


@pytest.fixture
def model(make_network, tmp_path: Path, monkeypatch) -> Path:
    save_model(make_network(labels=LABELS), tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "model"


def generate(model: Path, *options: object) -> int:
    return main(["generate", str(model), "--seconds", "0.05", *map(str, options)])


def test_another_take_is_numbered_and_the_same_one_is_not(model: Path, capsys) -> None:
    for options in ([], ["--temperature", 0.5], [], ["--temperature", 0.5], ["--top-k", 2]):
        assert generate(model, *options) == 0
    shown = capsys.readouterr().out.split()
    names = ["any_0_0", "any_0_0-2", "any_0_0", "any_0_0-2", "any_0_0-3"]
    assert shown == [f"out/{name}.wav" for name in names]
    first = Path("out/any_0_0.wav").read_bytes()
    assert generate(model, "--temperature", 0.5, "--overwrite") == 0
    assert Path("out/any_0_0.wav").read_bytes() != first
    assert len(list(Path("out").iterdir())) == 6


def test_a_recording_of_unknown_origin_stays(model: Path) -> None:
    Path("out").mkdir()
    Path("out/any_0_0.wav").write_text("mine")
    assert generate(model) == 0
    assert Path("out/any_0_0.wav").read_text() == "mine"
    assert Path("out/any_0_0-2.json").exists()


def test_out_may_be_one_file(model: Path, capsys) -> None:
    assert generate(model, "--out", "a.wav") == 0
    assert soundfile.info("a.wav").frames == 400
    assert main(["generate", "--like", "a.json", "--out", "b.wav"]) == 0
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()
    assert generate(model, "--out", "c.wav", "--count", 2) == 2
    assert "name a folder" in capsys.readouterr().err
    assert not Path("c.wav").exists()


def test_a_prompt_is_joined_to_its_continuation(model: Path) -> None:
    prompt = 0.1 * np.random.default_rng(0).standard_normal(300)
    soundfile.write("p.wav", prompt, 8000)
    assert generate(model, "--prompt", "p.wav", "--out", "plain.wav") == 0
    assert generate(model, "--prompt", "p.wav", "--join", "--out", "joined.wav") == 0
    plain, joined = (soundfile.read(name, dtype="int16")[0] for name in ("plain.wav", "joined.wav"))
    start = soundfile.read("p.wav", dtype="int16")[0]
    assert np.array_equal(joined, np.concatenate([start, plain]))
    assert main(["generate", "--like", "joined.json", "--out", "again"]) == 0
    assert Path("again/joined.wav").read_bytes() == Path("joined.wav").read_bytes()


def test_join_needs_a_prompt(model: Path, capsys) -> None:
    assert generate(model, "--join") == 2
    assert "--prompt" in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_picture_lies_beside_each_file(model: Path) -> None:
    assert generate(model, "--plot", "--count", 2) == 0
    for number in range(2):
        assert Path(f"out/any_0_{number}.png").read_bytes().startswith(b"\x89PNG")


def test_a_random_seed_is_another_each_time(model: Path) -> None:
    for _ in range(2):
        assert generate(model, "--seed", "random") == 0
    assert len(list(Path("out").glob("any_*_0.wav"))) == 2


@pytest.mark.parametrize(
    ("option", "meant"), [("--lenght", "--seconds"), ("--outt", "--out"), ("--top_k", "--top-k")]
)
def test_a_misspelled_option_names_the_right_one(model: Path, capsys, option, meant) -> None:
    assert generate(model, option, 3) == 2
    line = capsys.readouterr().err
    assert f"unknown option {option}: did you mean {meant}? (see 'wavegen generate --help')" in line
