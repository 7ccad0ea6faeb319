"""The house: a module imports only from floors below its own, and imports are cheap."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wavegen.models.serialization import save_model

PACKAGE = Path(__file__).parents[1] / "wavegen"
# A folder (or a file of the package itself) imports from rows above its own, and from itself.
FLOORS = [
    {"errors"},
    {"utils"},
    {"codecs"},
    {"audio"},
    {"distributions"},
    {"models"},
    {"data", "engines"},
    {"generation", "scoring"},
    {"training", "evaluation"},
    {"api"},
    {"commands"},
    {"__main__"},
]
FLOOR = {folder: number for number, folders in enumerate(FLOORS) for folder in folders}
# Which folders alone import a package.
HOMES = {
    "soundfile": {"audio"},
    "pytorch_lightning": {"training", "commands"},
    "triton": {"engines", "models"},
    "litdata": {"data"},
    "matplotlib": {"audio", "training"},
}
PRINTS = {"print", "tqdm.write", "warnings.warn", "sys.stderr.write", "sys.stdout.write"}
# Others return, raise, or remark through `logging`. A pattern is tried in a process of its own,
# which prints what it found, and progress is for who looks on.
PRINTING = {"commands", "training/progress.py", "data/patterns.py"}
LONGEST = 350  # lines of a file
LONGEST_FUNCTION = 60  # lines without the docstring
# Compiled by Numba and Triton: what they call is no cheaper to read, and need not be compiled away.
KERNELS = {
    "engines/cpu/vectors.py": {"_product", "generate"},
    "engines/cpu/wavenet_kernel.py": {"_run"},
    "engines/cpu/wavenet_scorer_kernel.py": {"_surprise"},
    "engines/gpu/wavenet_triton_kernel.py": {"_forward", "run"},
}
HEAVY = {"torch", "pytorch_lightning", "librosa", "numba", "triton", "matplotlib", "scipy"}


def files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def folder_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: Path) -> set[str]:
    """Full names of all that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the folder"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def lines(node: ast.AST) -> int:
    return node.end_lineno - node.lineno + 1


def test_every_folder_has_a_floor() -> None:
    assert {folder_of(path) for path in files()} <= set(FLOOR)


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_from_floors_below_and_stays_short(path: Path) -> None:
    folder = folder_of(path)
    for name in imported(path):
        package, other = (*name.split("."), "")[:2]
        assert folder in HOMES.get(package, {folder}), f"{folder} imports {package}"
        if package == "wavegen" and other in FLOOR and other != folder:
            assert FLOOR[other] < FLOOR[folder], f"{folder} imports {name}"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_function_stays_short(path: Path) -> None:
    long = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = node.body[:1] if ast.get_docstring(node) is not None else []
            if lines(node) - sum(map(lines, docstring)) > LONGEST_FUNCTION:
                long.add(node.name)
    assert long == KERNELS.get(path.relative_to(PACKAGE).as_posix(), set())


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_commands_print(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    printing = [ast.unparse(node) for node in calls if ast.unparse(node.func) in PRINTS]
    if not PRINTING & {folder_of(path), path.relative_to(PACKAGE).as_posix()}:
        assert not printing


def test_every_folder_says_what_it_owns() -> None:
    for folder in {path.parent for path in files()} - {PACKAGE}:
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))


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


def test_no_two_files_of_tests_have_one_name() -> None:
    """pytest imports them by their name alone."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert len(names) == len(set(names))


def test_private_parts_of_other_packages_have_one_home() -> None:
    """What begins with `_` may be gone in their next version, but for what all of torch uses."""
    for path in files():
        if path == PACKAGE / "training" / "private.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
                known = node.attr.startswith(("__", "_foreach_")) or node.attr == "_version"
                assert own or known, f"{path}:{node.lineno}: {ast.unparse(node)}"
