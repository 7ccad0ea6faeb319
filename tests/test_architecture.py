"""The house: a module imports only from floors below its own, and imports are cheap."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wavegen.checkpoint import save_model

PACKAGE = Path(__file__).parents[1] / "wavegen"
FLOORS = [
    {"errors", "json_shape", "patterns", "text"},
    {"ranks", "files", "signals", "containers"},
    {"mulaw", "labels", "config", "block", "block_kernels", "muon", "options"},
    {"fused_block", "training_precision"},
    {"audio", "splits", "wavenet", "windows", "plots", "distances", "judge"},
    {"folders", "checkpoint", "sampling", "remote"},
    {"clips"},
    {"decoding", "shard_index", "store_folders"},
    {"store", "engines", "engines.prefill", "engines.checks", "engines.precision"},
    {"engines.numba_vectors", "engines.memory"},
    {"engines.numba_draw", "engines.numba_cache", "engines.numba_packing", "engines.triton_kernel"},
    {"engines.numba_kernel", "engines.numba_scorer"},
    {"engines.torch_queue", "engines.numba_cpu", "engines.cuda_graph", "engines.triton_gpu"},
    {"engines.choice"},
    {"shards", "generate", "likelihood", "unfinished"},
    {"crops", "prepare", "comparison", "profile", "recipe"},
    {"restoring"},
    {"averaging", "data", "recordings", "training", "defaults", "scoring", "detector"},
    {"runs", "openmp", "interrupts", "classification", "detection"},
    {"counterparts"},
    {"run_config", "run_folders"},
    {"evaluation"},
    {"report"},
    {"score_command"},
    {"detect_command", "evaluate_command"},
    {"train_command"},
    {"cli"},
    {"__main__"},
]
FLOOR = {module: number for number, modules in enumerate(FLOORS) for module in modules}
HEAVY = {"torch", "pytorch_lightning", "librosa", "numba", "triton", "matplotlib", "scipy"}
LIGHTNING = {"averaging", "data", "interrupts", "openmp", "restoring", "runs", "train_command"}
LIGHTNING |= {"training"}


def modules() -> dict[str, ast.Module]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name:
            found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(tree: ast.Module) -> set[str]:
    """Full names of all that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the floor"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return names


def test_every_module_has_a_floor_and_no_floor_is_of_ghosts() -> None:
    assert set(modules()) == set(FLOOR)


@pytest.mark.parametrize("module", sorted(FLOOR))
def test_a_module_imports_only_from_floors_below(module: str) -> None:
    for name in imported(modules()[module]):
        other = name.removeprefix("wavegen.")
        if name.startswith("wavegen.") and other in FLOOR:
            assert FLOOR[other] < FLOOR[module], f"{module} imports {other}"


def test_only_a_few_modules_know_soundfile_and_lightning() -> None:
    for module, tree in modules().items():
        roots = {name.split(".")[0] for name in imported(tree)}
        if module != "audio":
            assert "soundfile" not in roots, module
        if module not in LIGHTNING:
            assert "pytorch_lightning" not in roots, module


def loaded(*arguments: object) -> set[str]:
    """Top-level packages that a Python process loads."""
    command = [sys.executable, "-X", "importtime", *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line for line in run.stderr.splitlines() if line.startswith("import time:")]
    return {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines}


@pytest.mark.parametrize("arguments", [["-c", "import wavegen"], ["-m", "wavegen", "--help"]])
def test_importing_and_asking_for_help_load_nothing_heavy(arguments: list[str]) -> None:
    """Contract C9."""
    packages = loaded(*arguments)
    assert "wavegen" in packages
    assert not packages & (HEAVY | {"numpy"})


def test_looking_at_data_or_a_model_loads_no_torch(make_network, tone_folder, tmp_path) -> None:
    save_model(make_network(), tmp_path / "model")
    for path in (tone_folder, tmp_path / "model"):
        assert not loaded("-m", "wavegen", "info", path) & HEAVY


def test_help_takes_little_more_than_python_itself() -> None:
    def seconds(*arguments: str) -> float:
        times = []
        for _ in range(3):
            began = time.perf_counter()
            subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
            times.append(time.perf_counter() - began)
        return min(times)

    # Importing torch takes some hundred times as long as starting Python.
    assert seconds("-m", "wavegen", "--help") < 10 * seconds("-c", "import argparse")
