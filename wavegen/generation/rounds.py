"""Writing a round of streams, which are generated together, into WAV files with their recipes."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import wavegen
from wavegen.audio import reading, writing
from wavegen.distributions.sampling import Sampling
from wavegen.engines.base import Engine
from wavegen.generation.generate import stream_chunks
from wavegen.generation.recipe import Recipe
from wavegen.utils.files import write_json
from wavegen.utils.progress import progress_bar


def new_recipe(
    model: Path,
    model_sha256: str,
    engine: Engine,
    precision: str,
    seed: int,
    sampling: Sampling | None,
) -> Recipe:
    """A recipe without streams and length; the arguments are those of `Recipe`."""
    # Versions of the packages that influence the last bit of the result.
    versions = {"wavegen": wavegen.__version__}
    versions |= {each: version(each) for each in ("torch", "numba")}
    return Recipe(
        model=str(model.resolve()),
        model_sha256=model_sha256,
        streams=(),
        position=0,
        samples=1,
        sample_rate=engine.network.config.sample_rate,
        seed=seed,
        sampling=sampling or Sampling(),
        prompt=None,
        prompt_sha256=None,
        device=str(engine.network.device),
        engine=engine.name,
        precision=precision,
        threads=torch.get_num_threads(),
        versions=versions,
    )


def write_round(
    engine: Engine,
    takes: Sequence[Recipe],
    paths: Sequence[Path],
    prompt: np.ndarray | None,
    count: Callable[[int], object],
    frames: Sequence[Any] | None = None,
) -> None:
    """Generate a round, and write some of its streams, each into a file with its recipe.

    Args:
        engine: engine that generates.
        takes: recipes that differ only in their positions and lengths.
        paths: paths of their WAVs.
        prompt: waveform to continue, float32 (time,).
        count: called with the number of samples that have been generated.
        frames: frames (F, D) of each stream of the round, if the network has features.
    """
    recipe, longest = takes[0], max(take.samples for take in takes)
    chunks = stream_chunks(
        engine, recipe.streams, longest, recipe.seed, recipe.sampling, prompt, frames=frames
    )
    with ExitStack() as stack:
        writers = [
            stack.enter_context(writing.WavWriter(path, recipe.sample_rate)) for path in paths
        ]
        for block in _joined(recipe):
            for writer in writers:
                writer.append(block)
        done = 0
        for chunk in chunks:
            own = [chunk[take.position][: max(0, take.samples - done)] for take in takes]
            for writer, samples in zip(writers, own, strict=True):
                writer.append(samples)
            count(sum(map(len, own)))
            done += chunk.shape[1]
        for path in paths:
            # Removed first, so that an interruption never leaves an old recipe with a new WAV.
            path.with_suffix(".json").unlink(missing_ok=True)
    for path, take in zip(paths, takes, strict=True):
        write_json(path.with_suffix(".json"), asdict(take))


def _joined(recipe: Recipe) -> Iterator[np.ndarray]:
    """Blocks float32 (time,) of the prompt if the recipe has `join`, else nothing."""
    if recipe.join and recipe.prompt is not None:
        yield from reading.blocks(recipe.prompt, recipe.sample_rate)


@contextmanager
def progress_of(total: int, sample_rate: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """Show samples per second and the ratio to real time; yield a function that counts samples."""
    began = time.monotonic()
    with progress_bar(total=total, unit=" samples", unit_scale=True, disable=not shown) as bar:

        def count(samples: int) -> None:
            speed = (bar.n + samples) / max(time.monotonic() - began, 1e-9) / sample_rate
            bar.set_postfix_str(f"{speed:.2f}x real time", refresh=False)
            bar.update(samples)

        yield count
