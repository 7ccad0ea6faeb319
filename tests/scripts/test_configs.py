"""Every shipped config is complete and loads, and says nothing that the code does not know."""

from pathlib import Path

import pytest
import yaml
from small import TINY, train

from wavegen.models.serialization import load_config

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
# The network of sc09.yaml is ten times as large as the others.
TRAINED = [
    pytest.param(each, marks=pytest.mark.slow) if each.stem == "sc09" else each for each in CONFIGS
]


def test_there_are_some() -> None:
    assert CONFIGS


@pytest.mark.parametrize("config", TRAINED, ids=lambda path: path.stem)
def test_it_trains(config: Path, tmp_path: Path) -> None:
    import audio_files

    values = yaml.safe_load(config.read_text())
    columns = values["data"].get("labels") or []
    folder = tmp_path / "data"
    lines = [",".join(["file_name", *columns])]
    for number in range(4):
        audio_files.save(folder / f"{number}.wav")
        lines.append(",".join([f"{number}.wav", *(str(number % 2) for _ in columns)]))
    (folder / "metadata.csv").write_text("\n".join(lines))
    # Its own network, on little data and for one step.
    small = [o for o in TINY if o.startswith("--trainer")]
    options = ["--config", config, "--run", tmp_path / "run", "--data.crop=256", *small]
    assert train(folder, *options, "--trainer.max_steps=1", sizes=()) == 0
    network = load_config(tmp_path / "run")
    assert {name: getattr(network, name) for name in values["model"]["network"]} == values["model"][
        "network"
    ]
    assert set(network.labels) == set(columns)
