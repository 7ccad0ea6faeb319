"""Results of a shared job on disk: they come back as they were, or not at all."""

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from wavegen.errors import ConfigError
from wavegen.evaluation.counterparts import ClipFigures
from wavegen.scoring import unfinished as module
from wavegen.scoring.anomaly import Verdict
from wavegen.scoring.classify import Classes
from wavegen.scoring.detect import Finding
from wavegen.scoring.score import Score
from wavegen.scoring.sources import Source
from wavegen.scoring.unfinished import _plain, file_state, unfinished

RNG = np.random.default_rng(0)
SCORE = Score(
    Source(Path(os.fsdecode(b"a/\xff.wav")), {"label": "\u00e4"}),
    5,
    5 / 3,
    RNG.standard_normal(3),
    RNG.integers(0, 9, 4),
    8000,
)
RESULTS = {
    Score: [SCORE, Score(Source(Path("b"), error="bad"), error="bad")],
    Classes: [Classes(SCORE, {"label": {"x": 0.1, "y": 0.9}}, {"label": "y"})],
    Finding: [Finding(SCORE, Verdict(0.1, 7.5, "mean", ((0.5, 1 / 3), (2.0, 3.0))), False)],
    ClipFigures: [ClipFigures(1 / 3, 7, {}, RNG.standard_normal(9).astype(np.float32))],
}


@pytest.fixture
def second_of_two(monkeypatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("WAVEGEN_CACHE", str(tmp_path))
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    return tmp_path / "unfinished"


def broken(kind: type, job: dict, results: list) -> None:
    """A job that ends in an error after it has made some results."""
    with suppress(ConfigError), unfinished(kind, job, str) as kept:
        assert kept is not None
        for item, result in enumerate(results):
            kept.add(item, result)
        raise ConfigError("cut")


@pytest.mark.parametrize("kind", RESULTS)
def test_results_come_back_to_the_last_bit(kind, second_of_two) -> None:
    broken(kind, {"a": 1}, RESULTS[kind])
    with unfinished(kind, {"a": 1}, str) as kept:
        for item, result in enumerate(RESULTS[kind]):
            again = kept.get(item)
            assert type(again) is kind
            assert _plain(again) == _plain(result)
            assert isinstance(getattr(again, "score", again), kind | Score)
        assert kept.get(99) is None
    with unfinished(kind, {"a": 2}, str) as kept:
        assert kept.get(0) is None
    with unfinished(kind, {"a": 1}, str, sound=lambda item: item > 0) as kept:
        assert kept.get(0) is None


def test_a_line_that_is_damaged_is_as_if_it_was_not_there(second_of_two) -> None:
    broken(ClipFigures, {}, RESULTS[ClipFigures] * 3)
    (path,) = second_of_two.glob("*/*.jsonl")
    first, second, third = path.read_bytes().splitlines()
    for damaged in (b"", b"3", b"\xff", b"[1]", b'["0", 5]', b'["0", {"bits": 1}]', third[:40]):
        for change in (first.replace(b"<f4", b"|O"), damaged):
            path.write_bytes(change + b"\n" + second + b"\n" + third[:-9])
            with unfinished(ClipFigures, {}, str) as kept:
                assert kept.get(0) is None
                assert kept.get(1).samples == 7
                assert kept.get(2) is None


def test_what_is_done_or_old_is_removed(second_of_two, monkeypatch) -> None:
    for job in ({"old": 1}, {"new": 1}):
        broken(Score, job, RESULTS[Score])
    old, new = sorted(second_of_two.iterdir(), key=lambda folder: folder.stat().st_mtime_ns)
    for path in (*old.iterdir(), old):
        os.utime(path, (0, 0))
    monkeypatch.setenv("RANK", "0")
    with unfinished(Score, {"new": 1}, str) as kept:
        assert kept.get(0) is not None
        assert new.exists()
        assert not old.exists()
    assert not new.exists()
    monkeypatch.setenv("WORLD_SIZE", "1")
    with unfinished(Score, {}, str) as kept:
        assert kept is None
    assert not list(second_of_two.iterdir())


def test_a_file_that_changes_has_another_name(tmp_path: Path) -> None:
    path = tmp_path / "a"
    names = {file_state(path)}
    for text in ("1", "12", "21"):
        path.write_text(text)
        os.utime(path, ns=(len(names), len(names)))
        names.add(file_state(path))
    assert len(names) == 4
    assert file_state(path) in names
    assert module.file_state(tmp_path / "b") == str(tmp_path / "b")


def test_a_job_goes_on_where_nothing_can_be_kept(second_of_two, monkeypatch, caplog) -> None:
    second_of_two.write_text("in the way")
    with unfinished(Score, {}, str) as kept:
        assert kept is None
    assert "results of this unfinished job cannot be kept" in caplog.messages[0]
    second_of_two.unlink()
    with unfinished(Score, {}, str) as kept, Path("/dev/full").open("wb", buffering=0) as full:
        monkeypatch.setattr(kept, "_file", full)
        for item in range(3):
            kept.add(item, SCORE)
    assert caplog.text.count("No space left") == 1
