from pathlib import Path

import pytest

from wavegen.audio.reading import AudioInfo
from wavegen.data.clips import Clip, ClipSet
from wavegen.models.config import WaveNetConfig
from wavegen.training.defaults import suggest


def clip_set(count: int, seconds: float, rate: int = 16000) -> ClipSet:
    info = AudioInfo(rate, 1, round(seconds * rate))
    clips = tuple(
        Clip(Path(f"{number}.wav"), f"{number}.wav", {}, "train", info, 0, 0)
        for number in range(count)
    )
    return ClipSet(Path(), clips, {"label": ("a", "b")}, (), ())


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize(("count", "seconds"), [(20, 0.1), (20, 300.0), (20_000, 1.0), (1, 0.01)])
def test_twenty_files_or_twenty_thousand_give_a_sensible_run(count, seconds, gpu) -> None:
    settings = suggest(clip_set(count, seconds), 16000, gpu, bfloat16=gpu)
    prefix = "model.network."
    network = WaveNetConfig(
        **{name[len(prefix) :]: v for name, v in settings.items() if name.startswith(prefix)}
    )
    assert network.labels == {"label": ("a", "b")}
    assert 512 <= settings["data.crop"] <= 8192
    assert settings["data.crop"] <= max(512, 2 * seconds * 16000)
    samples = settings["data.crop"] * settings["data.batch_size"]
    assert 2**15 <= samples <= 2**16 if gpu else samples == 2**13
    fewest, most = (10_000, 100_000) if gpu else (2_000, 30_000)
    assert fewest <= settings["trainer.max_steps"] <= most
    if count * seconds > 3600:
        assert settings["trainer.max_steps"] > 20_000


def test_lengths_are_counted_at_the_rate_of_training() -> None:
    low = suggest(clip_set(50, 1.0, rate=48000), 4000, gpu=False, bfloat16=False)
    assert low["data.crop"] == 4096
    assert low["data.sample_rate"] == low["model.network.sample_rate"] == 4000
    assert low["trainer.precision"] == "32-true"
