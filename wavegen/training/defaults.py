"""Default settings of a training, which depend on its data and its device.

A config file or an option overrides each of them.
"""

import statistics
from typing import Any

from wavegen.data.clips import ClipSet


def suggest(clips: ClipSet, sample_rate: int, gpu: bool, bfloat16: bool) -> dict[str, Any]:
    """Default values of `wavegen train`, by the dotted names of the options.

    Args:
        clips: the recordings.
        sample_rate: rate of training in Hz.
        gpu: whether there is a GPU.
        bfloat16: whether the device has instructions for bfloat16.
    """
    lengths = [
        clip.info.frames * sample_rate / clip.info.sample_rate for clip in clips.of("train")
    ] or [sample_rate]
    # The history of a crop is computed too, so a crop should be long, but not longer than most
    # clips. Few samples per step leave time for many steps. A GPU needs more samples to be busy,
    # but an epoch of little data should still have many steps. No GPU has timed these figures.
    longest = 8192 if gpu else 4096
    median = statistics.median(lengths)
    crop = next((size for size in (512, 1024, 2048, 4096) if median <= size), longest)
    batch_size = (2**16 if gpu else 2**13) // crop
    steps_per_epoch = max(1, sum(-(-length // crop) for length in lengths) // batch_size)
    # Thirty epochs, but at most about an hour on two cores or an evening on a GPU, and never
    # fewer steps than a network needs to learn something.
    fewest, most = (10_000, 100_000) if gpu else (2_000, 30_000)
    max_steps = int(min(max(30 * steps_per_epoch, fewest), most))
    return {
        "data.sample_rate": sample_rate,
        "data.crop": int(crop),
        "data.batch_size": int(batch_size),
        "data.num_workers": 4 if gpu else 0,
        "model.network.sample_rate": sample_rate,
        "model.network.labels": {name: list(c) for name, c in clips.attributes.items()},
        "model.network.layers": 30 if gpu else 20,
        "model.network.stacks": 3 if gpu else 2,
        "model.network.residual_channels": 64 if gpu else 32,
        "model.network.gate_channels": 128 if gpu else 64,
        "model.network.skip_channels": 256 if gpu else 128,
        "model.learning_rate": 2e-3 if gpu else 4e-3,
        "trainer.max_steps": max_steps,
        # Without a choice Lightning would take an Apple GPU, which has no float64.
        "trainer.accelerator": "cuda" if gpu else "cpu",
        "trainer.precision": "bf16-mixed" if bfloat16 else "32-true",
    }
