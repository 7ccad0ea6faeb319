"""What is imported is declared, and torchaudio is needed by features alone."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Names of packages whose module is called otherwise.
PACKAGES = {"yaml": "pyyaml", "pytorch_lightning": "pytorch-lightning"}
# torch brings triton for GPUs, and the others are asked for by extras.
OPTIONAL = {"triton", "litdata", "pesq", "visqol"}

WITHOUT_TORCHAUDIO = """
import sys

class Blocked:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "torchaudio":
            # What it raises beside a torch that it was not built for.
            raise OSError("libtorchaudio.so: undefined symbol")

sys.meta_path.insert(0, Blocked())
from wavegen.commands.main import main
folder, run, out = sys.argv[1:4]
assert main(["train", folder, "--run", run, "--trainer.max_steps=1", *sys.argv[4:]]) == 0
assert main(["generate", run, "--out", out, "--seconds", "0.01", "--engine", "torch"]) == 0
assert main(["score", run, folder, "--split", "validation"]) == 0
assert "torchaudio" not in sys.modules
"""


def test_every_imported_package_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {
        requirement.lower().partition(">")[0].partition("[")[0].partition("=")[0]
        for requirement in project["dependencies"]
    }
    imported = set()
    for path in (ROOT / "wavegen").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module).partition(".")[0])
    others = imported - set(sys.stdlib_module_names) - {"wavegen"} - OPTIONAL
    assert {PACKAGES.get(name, name) for name in others} <= declared
    pinned = {
        line.partition("==")[0].lower()
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    assert declared <= pinned


def test_all_but_features_works_where_torchaudio_does_not_load(
    tone_folder: Path, tmp_path: Path
) -> None:
    from small import TINY

    command = [sys.executable, "-c", WITHOUT_TORCHAUDIO, tone_folder, tmp_path / "run"]
    command += [tmp_path / "out", *TINY]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert list((tmp_path / "out").glob("*.wav"))
