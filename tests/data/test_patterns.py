import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small import network as small_network

from wavegen.commands.main import main
from wavegen.data.patterns import PatternError, search
from wavegen.data.settings import DataSettings, save_training
from wavegen.models.serialization import save_model

NEVER_ENDS = "(?P<label>(x+x+)+y)"


def test_what_groups_hold_is_found() -> None:
    names = ["ab_1", "\u00fc \udcff\u2028_", "3", "c_\n"]
    groups, matches = search(r"(?P<label>[a-z]+)_(?P<take>\d)?", names)
    assert groups == ["label", "take"]
    assert matches == [{"label": "ab", "take": "1"}, None, None, {"label": "c", "take": None}]
    assert search("(?P<a>.)", []) == (["a"], [])


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("(", "is not a regular expression"),
        ("(" * 5000, "is not a regular expression"),
        ("(?P<a>x{99999999999999999999})", "is not a regular expression"),
        ("[a-z]", "has no named group"),
        ("(?P<a>" + "x" * 10_000 + ")", "is longer than"),
        (NEVER_ENDS, "takes too"),
        ("(?P<a>(?:(?=)|x){4000000000})", "takes too"),
    ],
)
def test_what_cannot_be_used_is_refused_in_bounded_time(pattern: str, says: str) -> None:
    began = time.monotonic()
    with pytest.raises(PatternError, match=says):
        search(pattern, ["x" * 100], seconds=1)
    assert time.monotonic() - began < 60


def test_a_pattern_of_a_model_from_elsewhere_does_not_run_for_ever(
    tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(search, "__defaults__", (1.0,))
    save_model(small_network(labels={"label": ("a", "b")}), tmp_path / "model")
    save_training({}, DataSettings(label_pattern=NEVER_ENDS), tmp_path / "model")
    (tmp_path / "data").mkdir()
    for number in range(3):
        soundfile.write(tmp_path / "data" / f"{'x' * 60}{number}.wav", np.zeros(400), 8000)
    command = ["classify", str(tmp_path / "model"), str(tmp_path / "data"), "--check"]
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "label_pattern" in line
    assert "takes too" in line
