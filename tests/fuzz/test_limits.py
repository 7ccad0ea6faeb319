"""Many files, many calls, no room, and names that are markup."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path

import audio_files as odd
import numpy as np
import pytest

from wavegen.audio.reading import read
from wavegen.commands.main import main
from wavegen.data.clips import find_clips
from wavegen.models.serialization import load_model, save_model
from wavegen.scoring.score import score

LABELS = {"label": ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>')}


@pytest.fixture
def model(make_network, tmp_path: Path) -> Path:
    save_model(make_network(labels=LABELS), tmp_path / "model")
    return tmp_path / "model"


def many(folder: Path, count: int) -> Path:
    """So many names of one short recording."""
    first = odd.save(folder / "0.wav", odd.noise(0.01))
    for number in range(1, count):
        (folder / f"{number}.wav").hardlink_to(first)
    return folder


@pytest.mark.slow
def test_twenty_thousand_files_are_found(tmp_path: Path) -> None:
    found = find_clips(many(tmp_path / "data", 20_000))
    assert len(found.clips) == 20_000
    assert 0.09 < sum(clip.split == "validation" for clip in found.clips) / 20_000 < 0.11


@pytest.mark.slow
def test_more_clips_than_files_may_be_open_are_generated_and_scored(
    model: Path, tmp_path: Path, capsys
) -> None:
    """Systems allow 1,024 by default."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (700, before[1]))
    try:
        options = ["--seconds", "0.005", "--count", "1200", "--out", str(tmp_path / "out")]
        assert main(["generate", str(model), *options]) == 0
        assert len(list((tmp_path / "out").iterdir())) == 2400
        capsys.readouterr()
        assert main(["score", str(model), str(tmp_path / "out"), "--format", "csv"]) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1201
    assert all(line.endswith(",") for line in lines[1:])  # without an error


@pytest.mark.slow
def test_a_thousand_calls_hold_no_memory(model: Path, tmp_path: Path) -> None:
    network = load_model(model)
    path = odd.save(tmp_path / "a.wav", odd.noise(0.05))

    def call() -> None:
        read(path, 5000)
        next(iter(score(network, [path])))

    def held() -> int:
        pages = Path("/proc/self/statm").read_text().split()[1]
        return int(pages) * resource.getpagesize()

    for _ in range(200):
        call()
    before = held()
    for _ in range(1000):
        call()
    # A recording of 400 samples as float32 for each call would be 1.6 MB.
    assert held() - before < 1_000_000


@contextmanager
def no_room() -> Iterator[None]:
    """No file may grow beyond 100 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("command", ["generate", "score", "plot", "detect"])
def test_no_room_is_one_line_and_leaves_nothing(
    model: Path, tmp_path: Path, capsys, command: str
) -> None:
    out, data = tmp_path / "out", many(tmp_path / "data", 45)
    arguments = {
        "generate": ["generate", model, "--seconds", 0.1, "--out", out],
        "score": ["score", model, data / "0.wav", "--per-sample", out],
        "plot": ["score", model, data / "0.wav", "--plot", out],
        "detect": ["detect", "--calibrate", model, data],
    }[command]
    if command == "plot":
        # Libraries keep what they compile and which fonts there are, at their first use.
        main(["score", str(model), str(data / "0.wav"), "--plot", str(tmp_path / "before")])
        capsys.readouterr()
    files = sorted(model.iterdir())
    with no_room():
        assert main(list(map(str, arguments))) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "wavegen:" in line]
    assert len(errors) == 1
    assert "cannot be written (File too large); free some space" in errors[0]
    assert sorted(model.iterdir()) == files
    assert not list(out.glob("*"))


@pytest.mark.slow
def test_a_report_shows_names_and_runs_none_of_them(model: Path, tmp_path: Path, capsys) -> None:
    rows = ["file_name,label,split"]
    for number in range(32):
        odd.save(tmp_path / "data" / f"{number}.wav", odd.noise(0.05, seed=number))
        name = LABELS["label"][number % 2].replace('"', '""')
        rows.append(f'{number}.wav,"{name}",{"train" if number < 16 else "validation"}')
    (tmp_path / "data" / "metadata.csv").write_text("\n".join(rows))
    options = ["--count", "8", "--seconds", "0.05", "--engine", "torch", "--out"]
    data, out = str(tmp_path / "data"), tmp_path / "out"
    assert main(["evaluate", str(model), data, *options, str(out)]) == 0
    seen = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            seen.append((tag, *(name for name, _ in attributes)))

    (page,) = out.glob("*.html")
    text = page.read_text()
    Reader().feed(text)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert np.all([tag[0] != "script" and "onerror" not in tag for tag in seen])
