"""Generating WAV files, each with a recipe to generate the same file again."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

import wavegen
from wavegen.audio import reading, writing
from wavegen.data import labels as labelling
from wavegen.distributions.sampling import Sampling
from wavegen.engines.base import Engine
from wavegen.engines.choice import choose
from wavegen.errors import AudioFileError, ConfigError, LabelError, ModelError
from wavegen.generation.generate import (
    Stream,
    check_seed,
    rounds,
    sample_count,
    stream_chunks,
)
from wavegen.generation.prompts import read_prompt
from wavegen.generation.recipe import MOST_STREAMS, Recipe, read_recipe
from wavegen.generation.takes import place_for
from wavegen.models.base import Network
from wavegen.models.serialization import find_model, load_with_fingerprint
from wavegen.utils.device import pick_device
from wavegen.utils.distributed import share
from wavegen.utils.files import file_sha256, make_folder, write_json
from wavegen.utils.progress import progress_bar


def generate_files(
    model: str | Path,
    streams: Sequence[Stream],
    seconds: float,
    out: str | Path,
    *,
    seed: int = 0,
    sampling: Sampling | None = None,
    prompt: str | Path | None = None,
    device: str | None = None,
    engine: str = "auto",
    precision: str = "float32",
    join: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> list[Path]:
    """Generate `LABEL_SEED_INDEX.wav` for every stream, and its recipe, `LABEL_SEED_INDEX.json`.

    Files are written while they are generated, and get their names when they are complete.

    Args:
        model: run folder or model directory.
        streams: the streams to generate.
        seconds: length of each stream.
        out: folder for the files; or the WAV file itself, for a single stream.
        seed: seed of the noise.
        sampling: how codes are drawn.
        prompt: recording to continue, at any rate; it is not repeated in the files.
        device: torch device; by default the GPU if there is one, but the CPU for few streams.
        engine: one of `wavegen.engines.choice.ENGINES`.
        precision: precision of the weights, one of `wavegen.engines.precision.PRECISIONS`.
        join: put the whole prompt before its continuation in each file.
        overwrite: replace files that were generated with other settings; otherwise the new file
            gets a number, `LABEL_SEED_INDEX-2.wav`.
        progress: show samples per second and the ratio to real time on standard error.

    Returns:
        Paths of the WAV files, in the order of the streams.

    Raises:
        WavegenError: an argument is invalid, or a file cannot be read or written.
    """
    folder = find_model(model)
    network, model_sha256 = load_with_fingerprint(folder, pick_device(device))
    config = network.config
    samples = sample_count(seconds, config.sample_rate)
    check_seed(seed)
    _check_names(streams, config.labels, seed)
    place = place_for(Path(out), len(streams), overwrite)
    if join and prompt is None:
        raise ConfigError("--join needs a prompt: name it with --prompt")
    prompt_end = None
    if prompt is not None:
        prompt_end = read_prompt(prompt, config.sample_rate, config.receptive_field)
    ours = share(streams)
    # Stay on the device that the user has named.
    chosen = choose(network, engine, precision, None if device else len(ours))
    make_folder(place.folder)
    recipe = Recipe(
        model=str(Path(folder).resolve()),
        model_sha256=model_sha256,
        streams=(),
        position=0,
        samples=samples,
        sample_rate=config.sample_rate,
        seed=seed,
        sampling=sampling or Sampling(),
        prompt=None if prompt is None else str(Path(prompt).resolve()),
        prompt_sha256=None if prompt is None else file_sha256(prompt, AudioFileError),
        device=str(chosen.network.device),
        engine=chosen.name,
        precision=precision,
        threads=torch.get_num_threads(),
        versions=_versions(),
        join=join,
    )
    written = []
    with _progress(len(ours) * samples, config.sample_rate, progress) as count:
        for part in rounds(ours, chosen.network, MOST_STREAMS):
            made = replace(recipe, streams=tuple(part))
            takes = [replace(made, position=position) for position in range(len(part))]
            stems = [file_stem(stream, config.labels, seed) for stream in part]
            paths = [place.path(*each) for each in zip(stems, takes, strict=True)]
            _write(chosen, takes, paths, prompt_end, count)
            written += paths
    return written


def _versions() -> dict[str, str]:
    """Versions of the packages that influence the last bit of the result."""
    packages = ("torch", "numba")
    return {"wavegen": wavegen.__version__, **{each: version(each) for each in packages}}


def _check_names(streams: Sequence[Stream], attributes: labelling.Attributes, seed: int) -> None:
    """Refuse labels that the network does not know, and two streams with the same file name."""
    for stream in streams:
        labelling.encode(stream.labels, attributes)
    stems = {file_stem(stream, attributes, seed) for stream in streams}
    if len(stems) < len(streams):
        raise ConfigError("two of the streams have the same file name: give each another index")


def _write(
    engine: Engine,
    takes: Sequence[Recipe],
    paths: Sequence[Path],
    prompt: np.ndarray | None,
    count: Callable[[int], object],
) -> None:
    """Generate a round, and write some of its streams, each into a file with its recipe.

    Args:
        engine: engine that generates.
        takes: recipes that differ only in their positions.
        paths: paths of their WAVs.
        prompt: waveform to continue, float32 (time,).
        count: called with the number of samples that have been generated.
    """
    recipe = takes[0]
    chunks = stream_chunks(
        engine, recipe.streams, recipe.samples, recipe.seed, recipe.sampling, prompt
    )
    with ExitStack() as stack:
        writers = [
            stack.enter_context(writing.WavWriter(path, recipe.sample_rate)) for path in paths
        ]
        for block in _joined(recipe):
            for writer in writers:
                writer.append(block)
        for chunk in chunks:
            for writer, take in zip(writers, takes, strict=True):
                writer.append(chunk[take.position])
            count(chunk.size)
        for path in paths:
            # Removed first, so that an interruption never leaves an old recipe with a new WAV.
            path.with_suffix(".json").unlink(missing_ok=True)
    for path, take in zip(paths, takes, strict=True):
        write_json(path.with_suffix(".json"), asdict(take))


def _joined(recipe: Recipe) -> Iterator[np.ndarray]:
    """Blocks float32 (time,) of the prompt if the recipe has `join`, else nothing."""
    if recipe.join and recipe.prompt is not None:
        yield from reading.blocks(recipe.prompt, recipe.sample_rate)


def repeat_file(
    recipe_path: str | Path,
    out: str | Path,
    model: str | Path | None = None,
    *,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Generate a WAV again from its recipe, bit for bit.

    Args:
        recipe_path: the JSON file.
        out: folder for the WAV and its recipe, or the WAV file itself.
        model: present path of the model, if it has moved.
        overwrite: as in `generate_files`.
        progress: as in `generate_files`.

    Raises:
        ModelError: the recipe is damaged, its model or prompt has changed, or this machine lacks
            its device.
        WavegenError: a file cannot be read or written.
    """
    recipe = read_recipe(recipe_path)
    if model is not None:
        recipe = replace(recipe, model=str(find_model(model).resolve()))
    network = _network_of(recipe, recipe_path)
    config, prompt_end = network.config, None
    if recipe.prompt is not None:
        if file_sha256(recipe.prompt, ModelError) != recipe.prompt_sha256:
            raise ModelError(f"{recipe.prompt}: has changed since {recipe_path} was written")
        prompt_end = read_prompt(recipe.prompt, config.sample_rate, config.receptive_field)
    # The rounding of sums depends on the number of threads.
    with _torch_threads(recipe.threads):
        try:
            for stream in recipe.streams:
                labelling.encode(stream.labels, config.labels)
            engine = choose(network, recipe.engine, recipe.precision)
        except (ConfigError, LabelError) as error:
            raise ModelError(f"{recipe_path}: {error}") from error
        place = place_for(Path(out), 1, overwrite)
        make_folder(place.folder)
        target = place.path(Path(recipe_path).stem, recipe)
        total = len(recipe.streams) * recipe.samples
        with _progress(total, recipe.sample_rate, progress) as count:
            _write(engine, [recipe], [target], prompt_end, count)
    return target


def _network_of(recipe: Recipe, recipe_path: str | Path) -> Network:
    """The network of a recipe, on its device; `ModelError` if it has changed."""
    try:
        device = pick_device(recipe.device)
    except ConfigError as error:
        raise ModelError(
            f"{recipe_path}: made on {recipe.device}, which this machine lacks; other devices "
            "round differently: generate a similar file without --like"
        ) from error
    network, model_sha256 = load_with_fingerprint(recipe.model, device)
    if model_sha256 != recipe.model_sha256:
        raise ModelError(f"{recipe.model}: has changed since {recipe_path} was written")
    if recipe.sample_rate != network.config.sample_rate:
        raise ModelError(
            f"{recipe_path}: has a rate of {recipe.sample_rate} Hz, but its model has "
            f"{network.config.sample_rate}; the recipe was changed after it was written"
        )
    return network


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    """Set the number of threads of torch while the block runs, and restore it afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def file_stem(stream: Stream, attributes: labelling.Attributes, seed: int) -> str:
    """`LABEL_SEED_INDEX`; characters that a file name cannot hold become %XX."""
    return f"{labelling.file_stem(stream.labels, attributes)}_{seed}_{stream.index}"


@contextmanager
def _progress(total: int, sample_rate: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """Show samples per second and the ratio to real time; yield a function that counts samples."""
    began = time.monotonic()
    with progress_bar(total=total, unit=" samples", unit_scale=True, disable=not shown) as bar:

        def count(samples: int) -> None:
            speed = (bar.n + samples) / max(time.monotonic() - began, 1e-9) / sample_rate
            bar.set_postfix_str(f"{speed:.2f}x real time", refresh=False)
            bar.update(samples)

        yield count
