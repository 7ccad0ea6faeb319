"""What earlier commits wrote still loads, and still gives the bits, the codes and the training.

`old/COMMIT/` holds runs of that commit, and in expected.json what that commit made of them.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from old.make import (
    LABELS,
    MORE_STEPS,
    RUNS,
    STEPS,
    TRAINING,
    codes_of,
    generate_options,
    held_out_bits,
    metrics,
    network_bits,
    resume_options,
    run_command,
    score_options,
    write_recordings,
    write_scored,
)
from old.make_more import judged, write_normal

from wavegen.audio import reading
from wavegen.data.shards import ShardStore
from wavegen.models.serialization import load_model

OLD = Path(__file__).parent / "old"
# The first of each format of `config.json`: without a number, and 2.
COMMITS = ["ff5da60", "3f126ec"]


@pytest.fixture(params=COMMITS)
def commit(request: pytest.FixtureRequest) -> Path:
    """The folder of an earlier commit."""
    return OLD / request.param


@pytest.fixture(params=[f"{commit}/{name}" for commit in COMMITS for name in RUNS])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of an old run: a run is written to where it is resumed."""
    return shutil.copytree(OLD / request.param, tmp_path / Path(request.param).name)


@pytest.fixture
def expected(run: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the run's own commit made of it."""
    commit = request.node.callspec.params["run"].split("/")[0]
    return json.loads((OLD / commit / "expected.json").read_text())[run.name]


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    """The recording that was scored by the old commit."""
    return write_scored(tmp_path / "scored.wav")


def test_an_old_network_computes_what_it_did(run: Path, expected: Any, scored: Path) -> None:
    network = load_model(run).double()
    codes = codes_of(scored)
    # Ids as they are in the file: 0 is unspecified, and class n is n + 1.
    for kind, bits in zip(LABELS[run.name], expected["network_bits"], strict=True):
        attributes = json.loads((run / "model" / "config.json").read_text())["labels"]
        given = dict(each.split("=") if "=" in each else ("label", each) for each in kind)
        ids = [
            classes.index(given[name]) + 1 if name in given else 0
            for name, classes in attributes.items()
        ]
        assert network_bits(network, codes, torch.tensor([ids])) == pytest.approx(bits, rel=1e-11)


def test_an_old_model_scores_the_same_bits(run: Path, expected: Any, scored: Path) -> None:
    for model in (run, run / "model"):
        for labels, bits in zip(LABELS[run.name], expected["bits"], strict=True):
            (row,) = run_command("score", *score_options(model, scored, labels))
            assert json.loads(row)["bits"] == pytest.approx(bits, rel=1e-6)


def test_an_old_model_knows_what_it_was_trained_on(
    run: Path, expected: Any, scored: Path, tmp_path: Path
) -> None:
    (row,) = run_command("classify", "--prior=training", *score_options(run, scored))
    assert json.loads(row)["predicted"] == expected["predicted"]
    folder = write_recordings(run.name, tmp_path / "recordings")
    assert held_out_bits(run, folder) == pytest.approx(expected["held_out"], rel=1e-6)


@pytest.mark.parametrize("engine", ["torch", "numba", pytest.param("graph", marks=pytest.mark.gpu)])
def test_an_old_model_generates_the_same_codes(
    run: Path, expected: Any, scored: Path, tmp_path: Path, engine: str
) -> None:
    # No noise of this seed is so close to the edge of a code that rounding can decide.
    out = tmp_path / "out"
    run_command("generate", *generate_options(run, scored, expected["seed"], engine, out))
    assert {path.name: codes_of(path) for path in out.glob("*.wav")} == expected["codes"]


@pytest.mark.parametrize("engine", ["torch", "numba"])
def test_a_recording_is_made_again_from_an_old_recipe(
    commit: Path, tmp_path: Path, engine: str
) -> None:
    folder = commit / "classes"
    recipe = folder / "recipes" / f"{engine}.json"
    run_command("generate", str(folder), f"--like={recipe}", f"--out={tmp_path}")
    expected = json.loads((commit / "expected.json").read_text())["classes"]
    codes = expected["codes"][f"high_{expected['seed']}_0.wav"]
    assert codes_of(tmp_path / f"{engine}.wav") == codes


def test_an_old_run_is_resumed(run: Path, expected: Any, tmp_path: Path) -> None:
    folder = write_recordings(run.name, tmp_path / "recordings")
    run_command("train", *resume_options(run, folder))
    steps = {int(step): bits for step, bits in expected["train_bits"].items()}
    losses = {step: bits for step, bits in steps.items() if step > STEPS}
    assert len(losses) == MORE_STEPS
    # The file goes on where the old training stopped.
    logged = metrics(run, "train_bits")
    resumed = {step: bits for step, bits in logged.items() if step >= min(losses)}
    # The first loss shows the weights and the batch, the others the state of the optimiser and
    # the learning rate, the last figure the averaged weights.
    assert resumed == pytest.approx(losses, rel=1e-4)
    held_out = list(metrics(run, "val_bits").values())[-len(expected["val_bits"]) :]
    assert held_out == pytest.approx(list(expected["val_bits"].values()), rel=1e-4)


def test_an_old_calibration_judges_the_same(commit: Path, scored: Path, tmp_path: Path) -> None:
    normal = write_normal(tmp_path / "normal")
    rows = judged(commit / "classes", normal / "0.wav", scored)
    expected = json.loads((commit / "judged.json").read_text())
    assert [{name: row[name] for name in expected[0]} for row in rows] == expected


def test_old_shards_hold_the_same_clips(commit: Path, tmp_path: Path) -> None:
    folder = write_recordings("classes", tmp_path / "recordings")
    store = ShardStore(str(commit / "shards"))
    assert len(store) == 12
    for number, name in enumerate(store.names):
        assert (store.waveform(number)[:] == reading.read(folder / name)).all()
    run = tmp_path / "run"
    run_command("train", str(commit / "shards"), "--run", str(run), *TRAINING, "--steps=2")
    assert all(bits > 0 for bits in metrics(run, "val_bits").values())
    labels = json.loads((run / "model" / "config.json").read_text())["labels"]
    assert labels == {"label": ["high", "low"]}
