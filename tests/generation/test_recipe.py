import json
from pathlib import Path

import pytest
from mutations import survives

from wavegen.errors import ModelError
from wavegen.generation.recipe import read_recipe

GOOD = json.dumps(
    {
        "model": "m",
        "model_sha256": "",
        "streams": [{"labels": {}, "index": 0}],
        "position": 0,
        "samples": 80,
        "sample_rate": 8000,
        "seed": 0,
        "sampling": {"temperature": 1.0},
        "prompt": None,
        "prompt_sha256": None,
        "device": "cpu",
        "engine": "numba",
        "precision": "float32",
        "threads": 1,
        "versions": {},
    }
)


def test_the_json_that_the_broken_ones_are_made_from_is_sound(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(GOOD)
    assert read_recipe(tmp_path / "a.json").samples == 80
    older = {k: v for k, v in json.loads(GOOD).items() if k not in ("engine", "precision")}
    (tmp_path / "a.json").write_text(json.dumps(older))
    assert read_recipe(tmp_path / "a.json").engine == "torch"


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        '{"streams": 1}',
        '{"streams": [], "sampling": {}}',
        GOOD.replace('"model": "m"', '"model": 5'),
        GOOD.replace('"versions": {}', '"versions": []'),
    ],
)
def test_json_of_another_kind_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ModelError, match="not the JSON file of a generated"):
        read_recipe(tmp_path / "a.json")
    with pytest.raises(ModelError, match="cannot be read"):
        read_recipe(tmp_path / "b.json")


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("samples", "80", "samples is '80'"),
        ("samples", 10**12, "samples is 1000000000000: it must be a whole number from 1"),
        ("position", 9, "position is 9"),
        ("position", -1, "position is -1"),
        ("threads", 0, "threads is 0"),
        ("seed", -1, "seed is -1"),
        ("streams", [], "number of streams is 0"),
        ("streams", [{"labels": None}], "labels are None"),
        ("sampling", {"top_k": 0}, "top-k is 0"),
    ],
)
def test_what_is_out_of_range_is_named(tmp_path: Path, field: str, value, says: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps({**json.loads(GOOD), field: value}))
    with pytest.raises(ModelError, match=f"a.json: {says}"):
        read_recipe(tmp_path / "a.json")


def test_a_recipe_from_elsewhere_gets_one_clear_line(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    refused = survives(lambda: read_recipe(file), ModelError, file, json.loads(GOOD), 500)
    assert 250 < refused < 500
