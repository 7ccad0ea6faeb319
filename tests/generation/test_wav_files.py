import json
import os
import shutil
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from mutations import mutated
from small import LABELS

from wavegen.audio import reading
from wavegen.distributions.sampling import Sampling
from wavegen.errors import ConfigError, LabelError, ModelError, OutputError, WavegenError
from wavegen.generation import rounds
from wavegen.generation.generate import Stream, generate
from wavegen.generation.prompts import read_prompt
from wavegen.generation.recipe import read_recipe
from wavegen.generation.repeating import repeat_file
from wavegen.generation.wav_files import generate_files
from wavegen.models.serialization import save_model


@pytest.fixture
def model(make_network, tmp_path: Path) -> Path:
    save_model(make_network(labels=LABELS), tmp_path / "model")
    return tmp_path / "model"


STREAMS = [Stream({"digit": "2", "speaker": "ann"}, 0), Stream({"digit": "1"}, 1), Stream()]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_are_named_by_label_seed_and_index(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "deep"
    paths = generate_files(model, STREAMS, 0.05, out, seed=4, progress=False)
    assert [path.name for path in paths] == ["2-ann_4_0.wav", "1_4_1.wav", "any_4_0.wav"]
    assert names(out) == sorted(p.with_suffix(s).name for p in paths for s in (".wav", ".json"))
    for path in paths:
        info = soundfile.info(path)
        assert (info.subtype, info.samplerate, info.channels) == ("PCM_16", 8000, 1)
        assert info.frames == 400


def test_a_file_holds_what_generate_returns(model: Path, tmp_path: Path) -> None:
    (path,) = generate_files(model, STREAMS[:1], 0.05, tmp_path / "out", seed=4, progress=False)
    expected = generate(model, STREAMS[0].labels, seconds=0.05, seed=4)[0]
    written, _ = soundfile.read(path, dtype="float32")
    assert np.abs(written - expected).max() <= 1 / 32768


def test_every_wav_comes_again_bit_for_bit_from_its_json(model: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "prompt.wav", 0.1 * np.random.default_rng(0).normal(size=900), 8000)
    sampling = Sampling(temperature=0.8, top_k=200, top_p=0.95, guidance=1.5)
    paths = generate_files(
        model,
        STREAMS,
        0.1,
        tmp_path / "out",
        seed=9,
        sampling=sampling,
        prompt=tmp_path / "prompt.wav",
        progress=False,
    )
    for path in paths:
        again = repeat_file(path.with_suffix(".json"), tmp_path / "again", progress=False)
        assert again.name == path.name
        assert again.read_bytes() == path.read_bytes()
        assert again.with_suffix(".json").read_text() == path.with_suffix(".json").read_text()
    recipe = read_recipe(paths[1].with_suffix(".json"))
    assert recipe.streams[recipe.position] == STREAMS[1]
    assert (recipe.seed, recipe.sampling, recipe.samples) == (9, sampling, 800)


def test_repeating_leaves_the_threads_of_torch_as_they_were(model: Path, tmp_path: Path) -> None:
    (path,) = generate_files(model, STREAMS[:1], 0.01, tmp_path / "out", progress=False)
    recipe, before = path.with_suffix(".json"), torch.get_num_threads()
    other = json.loads(recipe.read_text()) | {"threads": before + 1}
    recipe.write_text(json.dumps(other))
    repeat_file(recipe, tmp_path / "again", progress=False)
    assert torch.get_num_threads() == before
    recipe.write_text(json.dumps(other | {"streams": [{"labels": {"no": "0"}, "index": 0}]}))
    with pytest.raises(ModelError, match="unknown label attribute"):
        repeat_file(recipe, tmp_path / "again", progress=False)
    assert torch.get_num_threads() == before


def test_what_has_changed_since_is_noticed(make_network, model: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "prompt.wav", np.zeros(100), 8000)
    (path,) = generate_files(
        model, STREAMS[:1], 0.01, tmp_path, prompt=tmp_path / "prompt.wav", progress=False
    )
    recipe = path.with_suffix(".json")
    soundfile.write(tmp_path / "prompt.wav", np.zeros(101), 8000)
    with pytest.raises(ModelError, match=r"prompt.wav: has changed since"):
        repeat_file(recipe, tmp_path / "again", progress=False)
    save_model(make_network(seed=1, labels=LABELS), model)
    with pytest.raises(ModelError, match="model: has changed since"):
        repeat_file(recipe, tmp_path / "again", progress=False)
    assert not (tmp_path / "again").exists()


def test_a_recipe_from_elsewhere_is_repeated_or_gets_one_clear_line(model, tmp_path) -> None:
    soundfile.write(tmp_path / "prompt.wav", np.zeros(100), 8000)
    (path,) = generate_files(
        model, STREAMS[:1], 0.01, tmp_path, prompt=tmp_path / "prompt.wav", progress=False
    )
    recipe = path.with_suffix(".json")
    good = json.loads(recipe.read_text())
    outcomes = Counter[bool]()

    def repeat(text: str) -> None:
        recipe.write_text(text)
        try:
            repeat_file(recipe, tmp_path / "again", progress=False)
            outcomes[True] += 1
        except WavegenError as error:
            outcomes[False] += 1
            assert "\n" not in str(error)  # noqa: PT017
            assert not (tmp_path / "again").exists()
        except Exception as error:
            pytest.fail(f"{error!r} of {text[:500]}")
        shutil.rmtree(tmp_path / "again", ignore_errors=True)

    for text in mutated(good, 200):
        repeat(text)
    assert outcomes[False] > 100
    assert outcomes[True] > 5
    outcomes.clear()
    bad = {
        "threads": [0, -1, 10**6],
        "sample_rate": [0, 16000],
        "samples": [0, 10**12],
        "position": [-1, 1],
        "device": ["meta", "cpu:99999999999", "hpu"],
        "model": ["/dev/zero", "a\0b", str(tmp_path / "pipe")],
        "prompt": ["/dev/zero", "a\0b", str(tmp_path / "pipe"), str(tmp_path)],
        "streams": [
            [],
            good["streams"] * 513,
            *([{"labels": each, "index": 0}] for each in (None, [], {"digit": 9})),
            *([{"labels": {}, "index": each}] for each in (-1, 2**64, None, 0.5)),
        ],
        "sampling": [{"temperature": 10**400}, {"top_k": 2**80}, {"guidance": 1e300}],
    }
    os.mkfifo(tmp_path / "pipe")
    cases = [{**good, name: value} for name, values in bad.items() for value in values]
    for case in cases:
        repeat(json.dumps(case))
    assert outcomes == {False: len(cases)}


def test_a_device_that_is_not_here_is_named(model: Path, tmp_path: Path) -> None:
    (path,) = generate_files(model, [Stream()], 0.01, tmp_path / "out", progress=False)
    recipe = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**recipe, "device": "tpu9"}))
    with pytest.raises(ModelError, match="made on tpu9, which this machine lacks"):
        repeat_file(path.with_suffix(".json"), tmp_path / "again", progress=False)
    assert not (tmp_path / "again").exists()


def test_a_model_that_has_moved_is_named(model: Path, tmp_path: Path) -> None:
    (path,) = generate_files(model, STREAMS[:1], 0.05, tmp_path / "out", progress=False)
    moved = model.rename(tmp_path / "moved")
    recipe = path.with_suffix(".json")
    with pytest.raises(ModelError, match="no such folder"):
        repeat_file(recipe, tmp_path / "again", progress=False)
    again = repeat_file(recipe, tmp_path / "again", moved, progress=False)
    assert again.read_bytes() == path.read_bytes()


def test_two_streams_of_one_name_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="same file name"):
        generate_files(model, [Stream(), Stream()], 0.05, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_a_prompt_at_another_rate_is_resampled_and_said(model, tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO")
    tone = 0.5 * np.sin(np.arange(4410) * 0.05)
    soundfile.write(tmp_path / "prompt.wav", np.stack([tone, tone], 1), 44100)
    heard = read_prompt(tmp_path / "prompt.wav", 8000, 10_000)
    assert len(heard) == pytest.approx(800, abs=2)
    assert "resampled from 44100 to 8000 Hz" in caplog.text


def test_of_a_prompt_only_the_end_is_kept(tmp_path: Path, caplog) -> None:
    """Twenty minutes of silence and a little noise: 20 kB of FLAC, 10 million samples."""
    wave = np.zeros(8000 * 60 * 20, np.int16)
    wave[-3000:] = np.random.default_rng(0).integers(-9000, 9000, 3000)
    soundfile.write(tmp_path / "prompt.flac", wave, 8000)
    whole = reading.read(tmp_path / "prompt.flac")
    for most in (1, 2999, 5000, 2**18, 2**18 + 1, len(wave), len(wave) + 1):
        heard = read_prompt(tmp_path / "prompt.flac", 8000, most)
        assert np.array_equal(heard, whole[-most:])
    tracemalloc.start()
    heard = read_prompt(tmp_path / "prompt.flac", 16000, 4000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(heard, reading.read(tmp_path / "prompt.flac", 16000)[-4000:])
    assert peak < wave.nbytes / 2
    soundfile.write(tmp_path / "loud.wav", np.full(3 * 2**18, 1.5), 8000, subtype="FLOAT")
    read_prompt(tmp_path / "loud.wav", 8000, 10)
    assert "786432 samples beyond full scale" in caplog.text


def test_nothing_half_written_is_left(model: Path, tmp_path: Path, monkeypatch) -> None:
    chunks = rounds.stream_chunks

    def cut_short(*arguments, **frames):
        yield next(iter(chunks(*arguments, **frames)))
        raise KeyboardInterrupt

    monkeypatch.setattr(rounds, "stream_chunks", cut_short)
    with pytest.raises(KeyboardInterrupt):
        generate_files(model, STREAMS, 1.0, tmp_path / "out", progress=False)
    assert names(tmp_path / "out") == []


def test_a_recording_that_is_not_replaced_keeps_its_recipe(model, tmp_path, monkeypatch) -> None:
    (path,) = generate_files(model, STREAMS[:1], 0.01, tmp_path / "out", progress=False)
    before = {each: each.read_bytes() for each in path.parent.iterdir()}

    def interrupted(*_, **__):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(rounds, "stream_chunks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate_files(model, STREAMS[:1], 0.02, tmp_path / "out", overwrite=True, progress=False)
    assert {each: each.read_bytes() for each in path.parent.iterdir()} == before


def test_a_wrong_request_writes_nothing(model: Path, tmp_path: Path) -> None:
    with pytest.raises(LabelError):
        generate_files(model, [Stream({"digit": "8"})], 1.0, tmp_path / "out", progress=False)
    with pytest.raises(ConfigError, match="seed"):
        generate_files(model, STREAMS, 1.0, tmp_path / "out", seed=-1, progress=False)
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        generate_files(model, STREAMS, 0.01, tmp_path / "file", progress=False)


def test_class_names_cannot_leave_the_folder(make_network, tmp_path: Path) -> None:
    save_model(make_network(labels={"label": ("../../x", "a/b")}), tmp_path / "model")
    streams = [Stream({"label": "../../x"}), Stream({"label": "a/b"})]
    paths = generate_files(tmp_path / "model", streams, 0.01, tmp_path / "out", progress=False)
    assert {path.parent for path in paths} == {tmp_path / "out"}
    config = json.loads(paths[0].with_suffix(".json").read_text())
    assert config["streams"][0]["labels"] == {"label": "../../x"}
