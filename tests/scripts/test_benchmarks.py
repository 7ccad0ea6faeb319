"""The benchmark scripts run, and what they measure keeps its order."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small import FEATURES, FSDD
from small import network as small_network

from wavegen.models.serialization import save_model

SCRIPTS = Path(__file__).parents[2] / "scripts"


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_generation(tmp_path: Path) -> None:
    done = run("bench_generate.py", "--quick", "--json", tmp_path / "rows.json")
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "rows.json").read_text())
    assert written["machine"]["torch"]
    rows = {
        (row["engine"], row["precision"], row["network"], row["streams"], row["threads"]): row
        for row in written["rows"]
    }
    large = "L20 R64 S256"

    def rate(engine: str, precision: str = "float32", streams: int = 1) -> float:
        return rows[engine, precision, large, streams, 1]["samples_per_second"]

    assert rate("naive") < 0.5 * rate("torch")
    assert rows["torch", "float32", large, 1, 1]["ratio_to_torch_queue"] == 1
    # Far below what a quiet machine shows: benchmarks/generate_two_cores.json.
    assert rate("numba") > 2 * rate("torch")
    assert rate("numba", "bfloat16") > 5 * rate("torch")
    assert rate("numba", "float32", 32) > 2 * rate("numba")
    far, near = (
        next(r for r in written["rows"] if r["engine"] == "numba" and r["network"].endswith(field))
        for field in ("field 16384", "field 15")
    )
    assert near["samples_per_second"] / far["samples_per_second"] < 1.5
    assert all(0 < row["ceiling_fraction"] < 3 for row in written["rows"])


@pytest.mark.slow
def test_scoring(tmp_path: Path) -> None:
    """That all ways agree in their bits, the script sees to itself."""
    done = run("bench_score.py", "--quick", "--json", tmp_path / "rows.json")
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "rows.json").read_text())
    rates = {row["scorer"]: row["samples_per_second"] for row in written["rows"]}
    # Far below what a quiet machine shows: benchmarks/score_two_cores.json.
    assert rates["wavegen score"] > 1.2 * rates["textbook Conv1d"]
    assert all(0 < row["ceiling_fraction"] < 3 for row in written["rows"])


@pytest.mark.slow
def test_training_beside_others(tmp_path: Path) -> None:
    """Threads that wait for one another do not bring training to a stop on a busy machine."""
    done = run("bench_busy.py", "--quick", "--json", tmp_path / "rows.json")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    kept = {row["beside"]: row["kept"] for row in rows if row["way"] == "as wavegen trains"}
    # Far below what a quiet machine shows: benchmarks/busy_two_cores.json.
    assert kept["nothing"] > 0.7
    assert kept["a busy loop"] > 0.3
    assert kept["a training of lower priority"] > 0.3


@pytest.mark.slow
def test_training(tmp_path: Path) -> None:
    done = run("bench_train.py", "--quick", "--json", tmp_path / "rows.json")
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "rows.json").read_text())
    fields = {"form", "precision", "device", "samples_per_second", "ratio_to_textbook"}
    fields |= {"ceiling_fraction", "data_wait_share"}
    assert all(fields <= row.keys() for row in written["rows"])
    own = [row for row in written["rows"] if row["form"] == "wavegen"]
    # Far below what a quiet machine shows: benchmarks/train_two_cores.json.
    # In the precision that training takes; in float32 alone some processors gain nothing.
    assert max(row["ratio_to_textbook"] for row in own) > 1
    assert all(row["data_wait_share"] < 0.05 for row in own)
    memory = [written["peak_bytes_of_two_crops"][str(crop)] for crop in (2048, 8192, 32768)]
    assert memory == sorted(memory)
    assert memory[2] < 16 * memory[0]


def test_precision_bits(tone_folder: Path, tmp_path: Path) -> None:
    network = small_network(labels={"label": ("low", "high")})
    save_model(network, tmp_path / "model")
    done = run("precision_bits.py", tmp_path / "model", tone_folder, "--json", tmp_path / "b.json")
    assert done.returncode == 0, done.stderr
    bits = json.loads((tmp_path / "b.json").read_text())["bits"]
    assert len({bits[name] for name in ("float32", "bfloat16", "int8")}) == 3
    assert bits["int8"] == pytest.approx(bits["float32"], abs=0.5)
    refused = run("precision_bits.py", tmp_path / "no", tone_folder)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.skipif(not FSDD.is_dir(), reason="no spoken digits here")
def test_detection(tmp_path: Path) -> None:
    labels = {"digit": tuple(map(str, range(10)))}
    save_model(small_network(labels=labels), tmp_path / "model")
    others = tmp_path / "others"
    others.mkdir()
    for path in sorted((FSDD / "recordings").iterdir())[::100]:
        (others / path.name).write_bytes(path.read_bytes())
    options = ("--others", others, "--json", tmp_path / "d.json")
    done = run("bench_detect.py", tmp_path / "model", FSDD, *options)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "d.json").read_text())
    rows = {row["kind"]: row for row in written["rows"]}
    assert rows["normal"]["auc"] == pytest.approx(0.5)
    assert rows["normal"]["flagged"] < 0.03
    assert written["draws_within_interval"] > 0.9
    # Even a network that has learned nothing tells noise and tones from speech by its codes.
    assert rows["white noise, as loud"]["auc"] > 0.8
    assert rows["pink noise, as loud"]["auc"] > 0.9
    assert rows["four partials of a tone, as loud"]["auc"] > 0.9
    assert rows["50 Hz hum at -34 dB"]["auc"] > 0.9
    # They are of the same speakers and words as those that are normal.
    assert rows["other recordings"]["auc"] < 0.7
    # The stronger the attack, the more often the classifier errs. How much of it shows depends on
    # what the network has learned, which here is nothing.
    attacks = [row for name, row in rows.items() if name.startswith("adversarial")]
    right = [row["classifier_accuracy"] for row in attacks]
    assert right == sorted(right, reverse=True)
    assert right[0] > 0.5
    assert right[-1] < 0.1


def test_the_benchmark_of_preparing_measures_both_ways(tmp_path: Path) -> None:
    done = run("bench_prepare.py", "--hours", "0.02", "--json", tmp_path / "rows.json")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [row["kind"] for row in rows] == ["store", "shards"]
    for row in rows:
        assert row["hours"] == pytest.approx(7 / 360)
        assert row["times_real_time"] > 1
        # In megabytes: a process with numpy takes tens, and one of this little data no more.
        assert 20 < row["peak_megabytes"] < 4000


def test_the_benchmark_of_vocoders_compares_both_paths(tmp_path: Path) -> None:
    save_model(small_network(features=FEATURES), tmp_path / "model")
    noise = 0.1 * np.random.default_rng(0).standard_normal(8000)
    soundfile.write(tmp_path / "a.wav", noise, 8000)
    options = ("--seconds", 0.5, "--repeats", 2, "--json", tmp_path / "figures.json")
    done = run("bench_vocoder.py", tmp_path / "model", tmp_path / "a.wav", *options)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["stream_equals_batch"]
    assert figures["seconds"] == 0.5
    assert figures["latency_milliseconds"] == pytest.approx(3 * 2)
    assert figures["with_features_over_without_time"] > 0.5
    assert figures["streamed_times_real_time"] > 0


@pytest.mark.slow
def test_changes_of_a_recipe_are_compared(tone_folder: Path, tmp_path: Path) -> None:
    """Every patch finds what it patches; the rest are options, which training checks."""
    config = tmp_path / "recipe.yaml"
    config.write_text(
        "data: {crop: 512, batch_size: 1}\n"
        "model: {network: {layers: 22, stacks: 2, residual_channels: 8, gate_channels: 8}}\n"
    )
    # One change of each kind; the others differ from these in a number.
    patched = "labels-added no-amplitude bilinear shortcut uneven dropout neighbours no-fall gain"
    only = ["none", *patched.split(), "mel-learned"]
    options = ("--config", config, "--minutes", 0.02, "--only", *only)
    done = run("ablation.py", tone_folder, *options, "--json", tmp_path / "rows.json")
    assert done.returncode == 0, done.stderr
    runs = {row["change"]: row for row in json.loads((tmp_path / "rows.json").read_text())["runs"]}
    assert runs.keys() == set(only)
    # Two factors without a bound: what diverges is said, and the others go on.
    assert "diverged" in runs.pop("bilinear")["failed"]
    assert not [row["failed"] for row in runs.values() if "failed" in row]
    assert all(row["steps"] > 0 and 0 < row["val_bits"] < 8.1 for row in runs.values())
    assert runs["shortcut"]["parameters"] > runs["none"]["parameters"]
    assert runs["labels-added"]["parameters"] < runs["none"]["parameters"]
