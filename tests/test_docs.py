"""README and manual: links lead somewhere, and every command and snippet in them runs.

A block fenced as `bash` or `python` is run here, page by page and in order, in a folder that holds
what the pages speak of, with limits that make it quick (LIMITS). A `yaml` block is a file, which
its first line names. What cannot run here (several machines, an installation) is fenced as
`console`, output as `text`.
"""

import contextlib
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile

import wavegen
from wavegen.audio.features import parse
from wavegen.commands.main import COMMANDS, main
from wavegen.training import train as training

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
# Pages whose commands are not for a test, but whose links are.
OTHERS = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
LANGUAGES = {"bash", "python", "yaml", "console", "text"}

NETWORK = [
    "--model.network.layers=4",
    "--model.network.stacks=2",
    "--model.network.residual_channels=8",
    "--model.network.gate_channels=8",
    "--model.network.skip_channels=8",
    "--data.crop=256",
    "--data.batch_size=2",
    "--trainer.accelerator=cpu",
    "--trainer.precision=32-true",
    "--trainer.enable_progress_bar=false",
]
# Appended to a command of the pages: what is given last counts.
LIMITS = {
    "train": [*NETWORK, "--trainer.max_steps=2"],
    "generate": ["--seconds=0.02"],
    "evaluate": ["--count=8", "--seconds=0.02"],
}
# Data and runs that are there before a page begins.
RUNS = {"FOLDER": "runs/dogs", "digits": "runs/digits", "instruments": "runs/instruments"}
# What a run resumes with is what it had; it has reached its limit of steps.
RESUMED = ["--trainer.max_steps=3"]
# Exit statuses other than 0 that are no failure: detect found something.
STATUSES = {"detect": {0, 1}}


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of every fenced block of a page."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def write_clips(folder: Path, names: list[str]) -> None:
    """Short recordings of noise, all of them different, at 8 kHz."""
    rng = np.random.default_rng(0)
    for each in names:
        path = folder / each
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.standard_normal(400), 8000)


def write_digits(folder: Path, held_out: int) -> None:
    """Recordings of two digits by two speakers, with metadata."""
    kinds = [(digit, speaker) for digit in "07" for speaker in ("theo", "jackson")]
    rows = ["file_name,digit,speaker,split"]
    for number in range(8 + held_out):
        digit, speaker = kinds[number % 4]
        split = "train" if number < 8 else "validation"
        rows.append(f"{digit}_{speaker}_{number}.wav,{digit},{speaker},{split}")
    write_clips(folder, [row.split(",")[0] for row in rows[1:]])
    (folder / "metadata.csv").write_text("\n".join(rows))


def write_mels(folder: Path, recordings: Path) -> None:
    """The log-mel features of recordings at 8 kHz."""
    folder.mkdir()
    for path in recordings.glob("*.wav"):
        np.save(folder / path.stem, parse("log_mel", 8000).compute(soundfile.read(path)[0]))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recordings and the runs that the pages speak of."""
    home = tmp_path_factory.mktemp("pages") / "home"
    write_digits(home / "digits", 40)
    write_clips(home / "FOLDER", [f"{kind}/{i}.wav" for kind in ("dog", "cat") for i in range(4)])
    for folder in ("suspects", "more"):
        write_clips(home / folder, ["one.wav", "two.wav"])
    write_clips(home, ["a.wav", "start.wav"])
    write_clips(home / "normal", [f"{number}.wav" for number in range(40)])
    write_mels(home / "mels", home / "digits")
    for folder in ("configs", "scripts"):
        (home / folder).symlink_to(ROOT / folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WAVEGEN_CACHE", str(home.parent / "cache"))
        patch.chdir(home)
        run_command("python scripts/instruments.py instruments")
        for data, run in RUNS.items():
            run_command(f"wavegen train {data} --run {run}")
        run_command("wavegen train digits --data.features log_mel --run runs/vocoder")
        run_command("wavegen train digits --data.features pitch,loudness --run runs/voice")
        run_command("wavegen generate runs/instruments --each label --out out")
    return home


@pytest.fixture
def home(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `prepared` as the current folder."""
    copy = tmp_path / "home"
    shutil.copytree(prepared, copy, symlinks=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("WAVEGEN_CACHE", str(prepared.parent / "cache"))
    return copy


def run_command(line: str) -> None:
    """Run one command of a page, quickly, and hold it to its exit status."""
    words = shlex.split(line, comments=True)
    if words[:1] == ["python"]:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, *words[1:]], env=environment, check=True)
        return
    assert words[0] == "wavegen", f"fence as console what no test can run: {line}"
    command = words[1]
    limits = RESUMED if "--resume" in words else LIMITS.get(command, [])
    if "--like" in words:
        limits = []
    if command == "train" and "--run" in words:
        # A page may train again what other pages find here already.
        shutil.rmtree(words[words.index("--run") + 1], ignore_errors=True)
    status = main([*words[1:], *limits])
    assert status in STATUSES.get(command, {0}), line


def run_commands(text: str) -> None:
    for line in text.replace("\\\n", "").splitlines():
        run_command(line)


# The journeys train and evaluate on real lengths of recordings.
RUNNING = [
    pytest.param(page, marks=[pytest.mark.slow] if page.parent.name == "journeys" else [])
    for page in PAGES
]


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name)
def test_every_cell_of_a_notebook_runs(
    notebook: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Jupyter runs it, in its own folder; what is shown there is no part of the environment."""
    shown = types.SimpleNamespace(Audio=lambda data, rate: (data, rate), display=print)
    ipython = types.SimpleNamespace(display=shown, get_ipython=lambda: None)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    (home / "examples").mkdir()
    monkeypatch.chdir(home / "examples")
    names: dict[str, object] = {}
    for cell in json.loads(notebook.read_text())["cells"]:
        text = "".join(cell["source"])
        if text.startswith("%%bash\n"):
            run_commands(text.removeprefix("%%bash\n"))
        elif cell["cell_type"] == "code":
            exec(compile(text, name(notebook), "exec"), names)


@pytest.mark.parametrize("page", RUNNING, ids=name)
def test_every_command_and_snippet_runs(
    page: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = training.train
    # A training of a snippet is as short as one of a command.
    monkeypatch.setattr(training, "train", lambda words: whole([*words, *LIMITS["train"]]))
    names: dict[str, object] = {}
    for language, text in blocks(page):
        if language == "bash":
            run_commands(text)
        elif language == "yaml":
            Path(re.match(r"# (\S+)\n", text)[1]).write_text(text)
        elif language == "python":
            exec(compile(text, name(page), "exec"), names)


def test_every_command_is_explained() -> None:
    run = [text for page in PAGES for language, text in blocks(page) if language == "bash"]
    commands = re.findall(r"^wavegen (\w+)", "".join(run), re.MULTILINE)
    assert set(commands) == set(COMMANDS)


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=name)
def test_blocks_say_whether_they_run(page: Path) -> None:
    assert {language for language, _ in blocks(page)} <= LANGUAGES
    assert page.read_text().count("\n```") % 2 == 0


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 180


def anchors(page: Path) -> set[str]:
    """Those of the headings, as they are made of them by the site and by GitHub."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def test_figures_name_files_that_are_there() -> None:
    """Benchmarks and scripts that the pages point to."""
    for page in PAGES:
        for path in re.findall(r"\b((?:benchmarks|scripts|configs)/[\w.]+\w)", page.read_text()):
            assert (ROOT / path).exists(), f"{name(page)}: {path}"


def walks() -> list[list[tuple[str, str]]]:
    """(file, function) of each table below the heading "The walk"."""
    walk = (ROOT / "docs" / "inside.md").read_text().split("## The walk", 1)[1].split("\n## ")[0]
    row = r"^\| `(.*?)` \| `(.*?)` \|"
    return [re.findall(row, part, re.MULTILINE) for part in walk.split("### ")[1:]]


def test_each_walk_is_short_and_meets_a_file_once() -> None:
    assert len(walks()) == 4
    for steps in walks():
        files = [file for file, _ in steps]
        assert 1 < len(files) == len(set(files)) <= 7


def calls_of(command: str) -> list[tuple[str, str]]:
    """(file, function) of every call that a command makes on the walks, in order."""
    named = {step for steps in walks() for step in steps}
    package = f"{Path(wavegen.__file__).parent}{os.sep}"
    calls = []

    def note(frame: types.FrameType, event: str, _: object) -> None:
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(package):
            step = (file.removeprefix(package), frame.f_code.co_qualname.rpartition("<locals>.")[2])
            if step in named:
                calls.append(step)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        run_command(command)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return calls


@pytest.mark.parametrize(
    ("walk", "command"),
    [
        (0, "wavegen train FOLDER --run runs/walk"),
        (1, "wavegen train FOLDER --run runs/walk"),
        (2, "wavegen generate runs/dogs --label dog --engine numba --out walk"),
        (3, "wavegen score runs/dogs a.wav"),
    ],
)
def test_a_walk_is_the_order_of_calls(
    walk: int, command: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing is decoded yet.
    monkeypatch.setenv("WAVEGEN_CACHE", str(home / "cache"))
    calls = iter(calls_of(command))
    for step in walks()[walk]:
        assert step in calls, f"{step} is not called after the step before it"


def test_the_table_of_folders_is_complete() -> None:
    text = (ROOT / "docs" / "inside.md").read_text()
    listed = re.findall(r"`(\w+)/`", text.split("## Folders", 1)[1].split("\n## ")[0])
    assert set(listed) == {path.parent.name for path in (ROOT / "wavegen").glob("*/__init__.py")}


def test_code_that_is_named_is_there() -> None:
    """Files of the package that pages name, and the folders that the pages on the code name."""
    of_code = {ROOT / "CONTRIBUTING.md", ROOT / "docs" / "inside.md"}
    for page in [*PAGES, *OTHERS]:
        pattern = r"`([\w./]+(?:\.py|/))`" if page in of_code else r"`([\w./]+\.py)`"
        for path in re.findall(pattern, page.read_text()):
            assert (ROOT / path).exists() or (ROOT / "wavegen" / path).exists(), path


def test_names_of_the_package_can_be_imported() -> None:
    names = {
        each for page in PAGES for each in re.findall(r"`(wavegen\.[\w.]+)`", page.read_text())
    }
    assert names
    for each in names:
        module, _, attribute = each.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), each


def test_the_reference_has_every_public_name() -> None:
    pages = (ROOT / "docs" / "reference").glob("*.md")
    documented = re.findall(r"^::: ([\w.]+)$", "".join(p.read_text() for p in pages), re.MULTILINE)
    assert len(documented) == len(set(documented))
    left = {f"wavegen.{each}" for each in wavegen.__all__} - set(documented)
    # The module of all errors is shown as a whole.
    assert left == {"wavegen.WavegenError"}
    assert "wavegen.errors" in documented


def test_pictures_are_small() -> None:
    pictures = list((ROOT / "docs" / "images").iterdir())
    assert pictures
    for picture in pictures:
        assert picture.stat().st_size < 150_000, picture.name


@pytest.mark.skipif(
    shutil.which("mkdocs", path=str(Path(sys.executable).parent)) is None, reason="no mkdocs"
)
def test_the_site_builds(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with contextlib.chdir(tmp_path):
        assert Path("index.html").is_file()
