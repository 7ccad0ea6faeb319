"""WAV files generated again from features: `wavegen resynthesize`, and what users do wrong."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import small
import soundfile
import torch

import wavegen
from wavegen.audio.features import FeatureSet
from wavegen.commands.main import main
from wavegen.generation.resynthesis import of_similar_lengths
from wavegen.models.serialization import load_model, save_model

RATE = 8000


def wave(samples: int, hertz: float = 200.0) -> np.ndarray:
    noise = np.random.default_rng(samples).standard_normal(samples)
    tone = np.sin(2 * np.pi * hertz * np.arange(samples) / RATE)
    return (0.3 * tone + 0.02 * noise).astype(np.float32)


def new_model(folder: Path, features: Sequence[object] = small.FEATURES) -> Path:
    network = small.network(labels=small.LABELS, features=features)
    if features:
        network.fit_features(torch.full((network.config.feature_set.size,), 8.5), torch.ones(()))
    save_model(network, folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_model(tmp_path_factory.mktemp("resynthesis") / "model")


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Three recordings of different lengths, one of them at another rate."""
    folder = tmp_path / "inputs"
    folder.mkdir()
    soundfile.write(folder / "a.wav", wave(1500), RATE)
    soundfile.write(folder / "b.flac", wave(700), RATE)
    soundfile.write(folder / "c.wav", wave(1000), 2 * RATE)
    return folder


def features_of(model: Path) -> FeatureSet:
    return load_model(model).config.feature_set


def read(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="float32")[0]


def test_files_have_the_names_and_lengths_of_their_inputs(
    model: Path, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["resynthesize", str(model), str(inputs), "--out", str(out), "--plot"]) == 0
    printed = capsys.readouterr()
    assert printed.out.split() == [str(out / f"{name}.wav") for name in "abc"]
    assert f"c.wav: resampled from {2 * RATE} to {RATE} Hz" in printed.err
    assert [len(read(out / f"{name}.wav")) for name in "abc"] == [1500, 700, 500]
    assert {path.suffix for path in out.iterdir()} == {".wav", ".json", ".png"}
    # The same as from Python, except that in a batch rounding may decide a draw otherwise.
    again = wavegen.load(model, device="cpu").resynthesize(inputs / "a.wav")
    assert (np.abs(again - read(out / "a.wav")) < 1e-4).mean() > 0.95


def test_a_file_is_regenerated_from_its_recipe(
    model: Path, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, again = tmp_path / "out", tmp_path / "again"
    options = ["--label", "digit=1", "--guidance", "1.5", "--seed", "3"]
    assert main(["resynthesize", str(model), str(inputs), "--out", str(out), *options]) == 0
    for name in "abc":
        assert main(["generate", "--like", str(out / f"{name}.json"), "--out", str(again)]) == 0
        for suffix in (".wav", ".json"):
            made, repeated = ((each / name).with_suffix(suffix) for each in (out, again))
            assert made.read_bytes() == repeated.read_bytes()
    # Equal settings replace a file, others get a number.
    main(["resynthesize", str(model), str(inputs / "a.wav"), "--out", str(out), "--seed", "4"])
    assert (out / "a-2.wav").exists()
    soundfile.write(inputs / "a.wav", wave(1400), RATE)
    capsys.readouterr()
    assert main(["generate", "--like", str(out / "b.json"), "--out", str(again)]) == 2
    assert "a.wav: has changed since" in capsys.readouterr().err


def test_generating_without_features_is_said(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", str(model), "--out", str(tmp_path), "--seconds", "0.01"]) == 0
    assert "(loudness,position) are left unspecified; 'wavegen res" in capsys.readouterr().err


def test_files_of_features_are_resynthesised(model: Path, inputs: Path, tmp_path: Path) -> None:
    out, features = tmp_path / "out", features_of(model)
    frames = features.compute(read(inputs / "a.wav"))
    folder = tmp_path / "features"
    folder.mkdir()
    np.save(folder / "rows.npy", frames)
    np.save(folder / "columns.npy", np.asfortranarray(frames.T.astype(np.float64)))
    assert main(["resynthesize", str(model), str(folder), "--out", str(out)]) == 0
    rows, columns = read(out / "rows.wav"), read(out / "columns.wav")
    assert len(rows) == len(frames) * features.hop_length
    assert np.array_equal(rows, columns)
    target = out / "one.wav"
    assert main(["resynthesize", str(model), str(inputs / "a.wav"), "--out", str(target)]) == 0
    assert (np.abs(read(target) - rows[:1500]) < 1e-4).mean() > 0.95


def broken(features: FeatureSet) -> dict[str, Callable[[Path], object]]:
    """Files of features with a mistake, by what the error says."""
    good = features.compute(wave(500))

    def changed(value: float) -> np.ndarray:
        return np.where(np.arange(good.shape[1]) == 1, value, good).astype(np.float32)

    values = {
        "holds an array (3, 5), but the model needs (frames, 8)": good[:3, :5],
        "holds an array (8,), but": good[0],
        "holds no frames": good[:0],
        "holds NaN or infinity": changed(np.nan),
        "holds -60 for position, which is from 0 to 1": changed(-60),
        "is not an array of numbers: write it with": np.array([["a"] * 8]),
        # A pickled object, which is never loaded.
        "is not an array of numbers": np.array([{}]),
    }
    bad: dict[str, bytes] = {
        "is empty": b"",
        "is not an array": b"RIFF1234",
        # What is left of a file of `numpy.savez`, a header that does not end, and one with a
        # length that cannot be.
        "is not an array of": b"PK\x03\x04" + bytes(40),
        "is not an array of numbers:": b"\x93NUMPY\x01\x00\x10\x00{'shape': (((((" + b" " * 4,
        "is not an": b"\x93NUMPY\x01\x00\x46\x00"
        + b"{'descr': '<f4', 'fortran_order': False, 'shape': (-5, 8), }".ljust(70),
    }
    return {
        **{says: partial(np.save, arr=each, allow_pickle=True) for says, each in values.items()},
        **{says: partial(Path.write_bytes, data=each) for says, each in bad.items()},
    }


def test_an_input_that_cannot_be_used_is_one_line_and_the_rest_is_done(
    model: Path, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = list(broken(features_of(model)).items())
    paths = [tmp_path / f"bad{number}.npy" for number in range(len(cases))]
    for path, (_, write) in zip(paths, cases, strict=True):
        write(path)
    empty = tmp_path / "empty.wav"
    soundfile.write(empty, np.zeros(0), RATE)
    out = tmp_path / "out"
    given = [*paths, empty, inputs / "a.wav"]
    status = main(["resynthesize", str(model), *map(str, given), "--out", str(out)])
    lines = capsys.readouterr().err.splitlines()
    errors = [line for line in lines if line.startswith("wavegen: ")]
    assert status == 1
    assert len(errors) == len(cases) + 1
    for path, (says, _), line in zip(paths, cases, errors, strict=False):
        assert line.startswith(f"wavegen: {path}: {says}")
    assert str(empty) in errors[-1]
    assert sorted(path.name for path in out.iterdir()) == ["a.json", "a.wav"]


def test_a_wrong_request_is_one_line_and_writes_nothing(
    model: Path, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = new_model(tmp_path / "plain", ())
    (tmp_path / "nothing").mkdir()
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    soundfile.write(mixed / "b.wav", wave(300), RATE)
    np.save(mixed / "c.npy", np.zeros((2, 8)))
    twin = tmp_path / "a.flac"
    soundfile.write(twin, wave(300), RATE)
    a = str(inputs / "a.wav")
    for arguments, says in (
        ([plain, a], "the model has no features: train it with --data.features"),
        ([model, tmp_path / "missing.wav"], "no such file or folder"),
        ([model, tmp_path / "nothing"], "nothing"),
        ([model, mixed], "holds recordings and .npy files"),
        ([model, a, twin], "two inputs have the name a"),
        ([model, a, "--out", inputs], "would be replaced"),
        ([model, inputs, "--out", tmp_path / "x.wav"], "name a folder"),
        ([model, a, "--transpose", "12"], "needs a model with the feature pitch"),
        ([model, a, "--transpose", "nan"], "transpose is nan"),
        ([model, a, "--label", "digit=9"], "9"),
    ):
        before = sorted(tmp_path.rglob("*"))
        assert main(["resynthesize", *map(str, arguments)]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert says in line
        assert sorted(tmp_path.rglob("*")) == before


def test_pitch_is_moved_into_the_range_of_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    definition = [
        {"kind": "pitch", "sample_rate": RATE, "hop_length": 64, "f_min": 65.0, "f_max": 1000.0},
        {"kind": "loudness", "sample_rate": RATE, "hop_length": 64, "floor": -80.0},
    ]
    model = new_model(tmp_path / "model", definition)
    soundfile.write(tmp_path / "low.wav", wave(4000, 100.0), RATE)
    soundfile.write(tmp_path / "silent.wav", np.zeros(1000), RATE)
    out = tmp_path / "out"

    def transposed_by(*options: str) -> list[float]:
        paths = [str(tmp_path / name) for name in ("low.wav", "silent.wav")]
        command = ["resynthesize", str(model), *paths, "--out", str(out), "--overwrite", *options]
        assert main(command) == 0
        recipes = [json.loads((out / f"{name}.json").read_text()) for name in ("low", "silent")]
        return [each["sources"][each["position"]]["transpose"] for each in recipes]

    # The mean of training is 2 ** 8.5 = 362 Hz: two octaves above 100 Hz is nearest.
    assert transposed_by() == [24.0, 0.0]
    assert "silent.wav: has no pitch in any frame" in capsys.readouterr().err
    moved = read(out / "low.wav")
    assert main(["generate", "--like", str(out / "low.json"), "--out", str(tmp_path / "b")]) == 0
    assert np.array_equal(read(tmp_path / "b" / "low.wav"), moved)
    assert transposed_by("--transpose", "-5") == [-5.0, -5.0]
    assert not np.array_equal(read(out / "low.wav"), moved)
    assert transposed_by("--transpose", "0") == [0.0, 0.0]
    # Also where nothing is moved, pitch is that of the whole recording.
    as_it_is = read(out / "low.wav")
    assert main(["generate", "--like", str(out / "low.json"), "--out", str(tmp_path / "c")]) == 0
    assert np.array_equal(read(tmp_path / "c" / "low.wav"), as_it_is)


def test_no_file_is_replaced_that_is_not_ours(model: Path, inputs: Path, tmp_path: Path) -> None:
    """Neither what lies beside an input, nor the result of another input."""
    notes = inputs / "b.json"
    notes.write_text("mine")
    assert main(["resynthesize", str(model), str(inputs / "b.flac"), "--out", str(inputs)]) == 0
    assert notes.read_text() == "mine"
    assert (inputs / "b-2.wav").exists()
    out = tmp_path / "out"
    assert main(["resynthesize", str(model), str(inputs / "a.wav"), "--out", str(out)]) == 0
    first = (out / "a.wav").read_bytes()
    soundfile.write(inputs / "a-2.wav", wave(1400), RATE)
    command = ["resynthesize", str(model), str(inputs / "a.wav"), str(inputs / "a-2.wav")]
    assert main([*command, "--seed", "1", "--out", str(out)]) == 0
    assert (out / "a.wav").read_bytes() == first
    assert len(read(out / "a-2.wav")) == 1400
    assert len(read(out / "a-3.wav")) == 1500


def test_a_linked_file_of_features_is_repeated(model: Path, inputs: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "b.npy", features_of(model).compute(read(inputs / "a.wav")))
    (tmp_path / "b.npy").rename(tmp_path / "blob")
    (tmp_path / "link.npy").symlink_to(tmp_path / "blob")
    out = tmp_path / "out"
    assert main(["resynthesize", str(model), str(tmp_path / "link.npy"), "--out", str(out)]) == 0
    again = ["generate", "--like", str(out / "link.json"), "--out", str(tmp_path / "again")]
    assert main(again) == 0


def test_files_of_similar_lengths_are_generated_together() -> None:
    rounds = of_similar_lengths([9000, 10**6, 100, 8500, 12000, 30000, 900_000])
    assert rounds == [[2, 3, 0, 4], [5], [6, 1]]
    assert max(map(len, of_similar_lengths([1000] * 200))) == 64
    assert of_similar_lengths([]) == []
