"""What a training run should look like, from its data and its device.

These are defaults: a config file or an option overrides each of them.
"""

import statistics
from typing import Any

from wavegen.data.clips import ClipSet


def suggest(clips: ClipSet, sample_rate: int, gpu: bool, bfloat16: bool) -> dict[str, Any]:
    """Dotted option names and values for `wavegen train`.

    Args:
        clips: the data.
        sample_rate: that training will use, in Hz.
        gpu: whether there is one.
        bfloat16: whether the device multiplies in bfloat16 natively.
    """
    lengths = [
        clip.info.frames * sample_rate / clip.info.sample_rate for clip in clips.of("train")
    ] or [sample_rate]
    # A crop costs its history too, so it should be long, but need not be longer than most
    # clips. Few samples a step leave time for many steps; a GPU needs more to be busy, but not
    # so many that little data is a few steps only. None of this has been timed on a GPU.
    longest = 8192 if gpu else 4096
    median = statistics.median(lengths)
    crop = next((size for size in (512, 1024, 2048, 4096) if median <= size), longest)
    batch_size = (2**16 if gpu else 2**13) // crop
    steps_per_epoch = max(1, sum(-(-length // crop) for length in lengths) // batch_size)
    # Thirty passes, within what one sitting allows: about an hour on two cores, an
    # evening on a GPU; and never so few steps that nothing is learned.
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
