"""Writes what tests/test_old_formats.py reads: runs of an earlier commit, and what it made of them.

It is run once with the code of each commit whose runs are kept, and never again after that:

    git worktree add --detach /tmp/ff5da60 ff5da60
    cd /tmp && PYTHONPATH=/tmp/ff5da60 OMP_NUM_THREADS=1 python .../tests/old/make.py .../ff5da60

The test imports the recordings and the commands from here, so that both ask for the same.
"""

import csv
import io
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE = 8000
STEPS, MORE_STEPS = 160, 6
# A draw whose noise is this close to the edge of a code may fall on either side of it when sums
# are rounded in another order; float32 comes to about a tenth of it.
MARGIN = 1e-5
# Options of the network and of the data, for each run.
RUNS: dict[str, list[str]] = {
    "classes": ["--model.network.gate=linear", "--model.network.kernel_size=2"],
    "attributes": [
        "--model.network.gate=tanh",
        "--model.network.kernel_size=3",
        r"--data.label_pattern=(?P<pitch>low|high)_(?P<form>sine|saw)_",
    ],
}
# Labels that a recording is scored under, and options of a generation, for each run.
LABELS: dict[str, list[list[str]]] = {
    "classes": [[], ["low"], ["high"]],
    "attributes": [[], ["pitch=low"], ["pitch=high", "form=saw"]],
}
GENERATED: dict[str, list[str]] = {
    "classes": ["--each=label", "--count=2", "--seconds=0.03"],
    "attributes": [
        *("--label=pitch=low", "--label=form=sine", "--seconds=0.05"),
        *("--guidance=1.5", "--temperature=0.9"),
    ],
}
# Runs whose generation goes on from the recording.
PROMPTED = {"attributes"}
TRAINING = [
    "--model.network.layers=4",
    "--model.network.stacks=2",
    "--model.network.residual_channels=4",
    "--model.network.gate_channels=8",
    "--model.network.skip_channels=6",
    "--model.learning_rate=0.02",
    "--model.warmup_steps=5",
    "--data.crop=400",
    "--data.batch_size=4",
    "--trainer.precision=32-true",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    f"--trainer.max_steps={STEPS}",
    f"--trainer.val_check_interval={STEPS // 4}",
]


def write_recordings(name: str, folder: Path) -> Path:
    """The recordings that the run `name` was trained on, 16-bit WAVs of half a second in all."""
    rng = np.random.default_rng(0)
    for pitch, hertz in {"low": 200, "high": 900}.items():
        for form in ("sine", "saw"):
            for number in range(3):
                phase = hertz * np.arange(600 + 50 * number) / RATE
                wave = np.sin(2 * np.pi * phase) if form == "sine" else 2 * (phase % 1) - 1
                wave = 0.5 * wave + 0.01 * rng.standard_normal(len(wave))
                place = pitch if name == "classes" else "."
                write_wave(folder / place / f"{pitch}_{form}_{number}.wav", wave)
    return folder


def write_scored(path: Path) -> Path:
    """The recording that is scored, classified, and gone on from: a rising tone, 1200 samples."""
    time = np.arange(1200) / RATE
    write_wave(path, 0.4 * np.sin(2 * np.pi * (150 + 2000 * time) * time))
    return path


def codes_of(path: Path) -> list[int]:
    """The mu-law codes, 0 to 255, of a 16-bit WAV whose samples are values of codes."""
    wave = soundfile.read(path, dtype="int16")[0] / 32767
    companded = np.sign(wave) * np.log1p(255 * np.abs(wave)) / np.log1p(255)
    return [round(255 * (each + 1) / 2) for each in companded.tolist()]


def score_options(run: Path, recording: Path, labels: Sequence[str] = ()) -> list[str]:
    """Of `wavegen score` and `wavegen classify`."""
    given = [f"--label={label}" for label in labels]
    return [str(run), str(recording), *given, "--format=jsonl", "--device=cpu"]


def generate_options(run: Path, recording: Path, seed: int, engine: str, out: Path) -> list[str]:
    """Of `wavegen generate`."""
    prompt = [f"--prompt={recording}"] if run.name in PROMPTED else []
    plain = [str(run), *GENERATED[run.name], *prompt, f"--seed={seed}", f"--out={out}"]
    return [*plain, f"--engine={engine}", f"--device={'cuda' if engine == 'graph' else 'cpu'}"]


def resume_options(run: Path, folder: Path) -> list[str]:
    """Of `wavegen train`: six steps more, each with its loss in metrics.csv."""
    limits = [f"--trainer.max_steps={STEPS + MORE_STEPS}", "--trainer.log_every_n_steps=1"]
    return [str(folder), "--resume", str(run), *limits]


def run_command(*arguments: str, status: int = 0) -> list[str]:
    """The lines that a command writes to standard output; it must end with this status."""
    try:
        from wavegen.commands.main import main
    except ImportError:  # The name that it had at commit ff5da60.
        from wavegen.cli import main  # type: ignore[import-not-found, no-redef]

    with redirect_stdout(io.StringIO()) as output:
        assert main(arguments) == status
    return output.getvalue().splitlines()


def held_out_bits(run: Path, folder: Path) -> dict[str, float]:
    """File name -> bits, of the clips of a folder that the run's training held out."""
    rows = map(json.loads, run_command("score", "--split=validation", *score_options(run, folder)))
    return {Path(row["path"]).name: row["bits"] for row in rows}


def metrics(run: Path, name: str) -> dict[int, float]:
    """Step -> figure, of the column `name` of the run's metrics.csv."""
    with (run / "metrics.csv").open(newline="") as file:
        return {int(row["step"]): float(row[name]) for row in csv.DictReader(file) if row[name]}


def write_wave(path: Path, wave: np.ndarray) -> None:
    """Write a 16-bit WAV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.round(32767 * wave).astype(np.int16), RATE)


def _make(name: str, out: Path, home: Path) -> dict[str, Any]:
    """Train a run, keep a part of it in `out`, and give what is expected of it."""
    folder = write_recordings(name, home / f"{name}-recordings")
    scored = write_scored(home / "scored.wav")
    run, kept = home / name, out / name
    run_command("train", str(folder), "--run", str(run), *TRAINING, *RUNS[name])
    for part in ("config.yaml", "best.json", "metrics.csv", "checkpoints/last.ckpt", "model"):
        target = kept / part
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (run / part).is_dir() else shutil.copyfile
        copy(run / part, target)

    expected: dict[str, Any] = {}
    rows = [run_command("score", *score_options(run, scored, each)) for each in LABELS[name]]
    expected["bits"] = [json.loads(each[0])["bits"] for each in rows]
    expected["network_bits"] = [_network_bits(run, scored, each) for each in LABELS[name]]
    (row,) = run_command("classify", "--prior=training", *score_options(run, scored))
    expected["predicted"] = json.loads(row)["predicted"]
    expected["held_out"] = held_out_bits(run, folder)
    expected["seed"] = seed = _sound_seed(run, scored, home / "tried")
    for engine in ("torch", "numba"):
        made = home / engine
        paths = run_command("generate", *generate_options(run, scored, seed, engine, made))
        codes = {Path(path).name: codes_of(Path(path)) for path in paths if path.endswith(".wav")}
        assert expected.setdefault("codes", codes) == codes, f"{engine} draws other codes"
        if name not in PROMPTED:
            (kept / "recipes").mkdir(exist_ok=True)
            recipe = made / f"{Path(paths[0]).stem}.json"
            shutil.copyfile(recipe, kept / "recipes" / f"{engine}.json")
    run_command("train", *resume_options(run, folder))
    expected["train_bits"] = metrics(run, "train_bits")
    expected["val_bits"] = metrics(run, "val_bits")
    return expected


def _network_bits(run: Path, scored: Path, labels: Sequence[str]) -> float:
    """By the network itself, in float64: what rounding cannot blur."""
    import torch

    try:
        from wavegen.data import labels as labelling
        from wavegen.models.serialization import load_model
    except ImportError:  # The names that they had at commit ff5da60.
        from wavegen.checkpoint import load_model  # type: ignore[import-not-found, no-redef]

        from wavegen import labels as labelling  # type: ignore[attr-defined, no-redef]

    network = load_model(run).double()
    attributes = network.config.labels
    ids = torch.tensor([labelling.encode(labelling.parse(labels, attributes), attributes)])
    return network_bits(network, codes_of(scored), ids)


def network_bits(network: Any, codes: Sequence[int], ids: Any) -> float:
    """Bits of codes by a network in float64 that maps (codes, ids) to logits (1, T, Q)."""
    import torch

    targets = torch.tensor([codes])
    with torch.inference_mode():
        logs = network(targets, ids).log_softmax(-1)
    return -logs.gather(-1, targets[..., None]).sum().item() / np.log(2)


def _sound_seed(run: Path, scored: Path, out: Path) -> int:
    """The first seed under which no noise is close to the edge of a code."""
    module: Any
    try:
        from wavegen.distributions import sampling as module
        from wavegen.distributions.sampling import distribution
    except ImportError:  # The names that they had at commit ff5da60.
        from wavegen.sampling import distribution  # type: ignore[import-not-found, no-redef]

        from wavegen.engines import torch_queue as module  # type: ignore[attr-defined, no-redef]

    plain_draw, distances = module.draw, [1.0]

    def draw(logits: Any, noise: Any, sampling: Any) -> Any:
        edges = distribution(logits, sampling).cumsum(-1)[:, :-1]
        distances.append((edges - noise[:, None]).abs().min().item())
        return plain_draw(logits, noise, sampling)

    module.draw = draw
    try:
        for seed in range(1000):
            distances.clear()
            run_command("generate", *generate_options(run, scored, seed, "torch", out))
            if min(distances) >= MARGIN:
                return seed
    finally:
        module.draw = plain_draw
    raise SystemExit(f"{run}: no seed keeps its noise {MARGIN} away from all edges")


if __name__ == "__main__":
    target = Path(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="old-runs-") as home:
        made = {name: _make(name, target, Path(home)) for name in RUNS}
    (target / "expected.json").write_text(json.dumps(made) + "\n")
