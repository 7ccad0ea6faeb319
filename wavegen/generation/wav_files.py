"""Generated WAV files, each with its recipe: all it takes to make the same file again."""

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
    """Generate `LABEL_SEED_INDEX.wav` for every stream, and its recipe as JSON beside it.

    Files grow while they are made and appear under their names when they are whole.

    Args:
        model: run folder or model directory.
        streams: what to generate.
        seconds: length of each.
        out: folder for the files; or the WAV file itself, for one stream.
        seed: of the noise.
        sampling: how codes are drawn.
        prompt: recording to continue, at any rate; it is not repeated in the files.
        device: torch device; if not given the GPU if there is one, for few streams the CPU.
        engine: one of `wavegen.engines.choice.ENGINES`.
        precision: of the weights, one of `wavegen.engines.precision.PRECISIONS`.
        join: put the whole prompt before its continuation in each file.
        overwrite: replace files that were generated with other settings; without it the new file
            gets a number, `LABEL_SEED_INDEX-2.wav`.
        progress: show samples per second and times real time on standard error.

    Returns:
        Paths of the WAV files, in the order of the streams.

    Raises:
        WavegenError: as its message says.
    """
    folder = find_model(model)
    network, model_sha256 = load_with_fingerprint(folder, pick_device(device))
    config = network.config
    samples = sample_count(seconds, config.sample_rate)
    check_seed(seed)
    _check_names(streams, config.labels, seed)
    place = place_for(Path(out), len(streams), overwrite)
    if join and prompt is None:
        raise ConfigError("--join puts a prompt before its continuation: name it with --prompt")
    heard = None
    if prompt is not None:
        heard = read_prompt(prompt, config.sample_rate, config.receptive_field)
    ours = share(streams)
    # A device that is named is kept to.
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
            _write(chosen, takes, paths, heard, count)
            written += paths
    return written


def _versions() -> dict[str, str]:
    """Of the packages whose code decides on the last bit."""
    packages = ("torch", "numba")
    return {"wavegen": wavegen.__version__, **{each: version(each) for each in packages}}


def _check_names(streams: Sequence[Stream], attributes: labelling.Attributes, seed: int) -> None:
    """Refuse labels that the network does not know, and two streams of one file name."""
    for stream in streams:
        labelling.encode(stream.labels, attributes)
    stems = {file_stem(stream, attributes, seed) for stream in streams}
    if len(stems) < len(streams):
        raise ConfigError("two of the streams would be written to one file")


def _write(
    engine: Engine,
    takes: Sequence[Recipe],
    paths: Sequence[Path],
    prompt: np.ndarray | None,
    count: Callable[[int], object],
) -> None:
    """Generate a round, and write some of its streams, each into a file with its recipe.

    Args:
        engine: that generates.
        takes: recipes that differ in their position only.
        paths: of the WAV of each.
        prompt: what is continued, float32 (time,).
        count: told the samples as they are generated.
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
            # No old recipe may lie beside a new recording, should this stop in between.
            path.with_suffix(".json").unlink(missing_ok=True)
    for path, take in zip(paths, takes, strict=True):
        write_json(path.with_suffix(".json"), asdict(take))


def _joined(recipe: Recipe) -> Iterator[np.ndarray]:
    """The prompt, float32 (time,) by blocks, where it stands before its continuation."""
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
    """Generate a WAV again from the recipe beside it, bit for bit, into the folder `out`.

    Args:
        recipe_path: the JSON.
        out: folder for the WAV and its recipe, or the WAV file itself.
        model: where the model is now, if it has moved.
        overwrite: as in `generate_files`.
        progress: as in `generate_files`.

    Raises:
        ModelError: the recipe is damaged, its model or prompt is no longer what it was, or its
            device is not here.
        WavegenError: as its message says.
    """
    recipe = read_recipe(recipe_path)
    if model is not None:
        recipe = replace(recipe, model=str(find_model(model).resolve()))
    network = _network_of(recipe, recipe_path)
    config, heard = network.config, None
    if recipe.prompt is not None:
        if file_sha256(recipe.prompt, ModelError) != recipe.prompt_sha256:
            raise ModelError(f"{recipe.prompt}: not the file it was when {recipe_path} was written")
        heard = read_prompt(recipe.prompt, config.sample_rate, config.receptive_field)
    # The number of threads decides in what order sums are rounded.
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
            _write(engine, [recipe], [target], heard, count)
    return target


def _network_of(recipe: Recipe, recipe_path: str | Path) -> Network:
    """The network that a recipe names, on its device; `ModelError` if it is another one now."""
    try:
        device = pick_device(recipe.device)
    except ConfigError as error:
        raise ModelError(
            f"{recipe_path}: made on {recipe.device}, which is not here, and only there the same "
            "file comes out; without --like generate one that is much like it"
        ) from error
    network, model_sha256 = load_with_fingerprint(recipe.model, device)
    if model_sha256 != recipe.model_sha256:
        raise ModelError(f"{recipe.model}: not the model it was when {recipe_path} was written")
    if recipe.sample_rate != network.config.sample_rate:
        raise ModelError(
            f"{recipe_path}: is for {recipe.sample_rate} Hz, but its model for "
            f"{network.config.sample_rate}; it was changed after it was written"
        )
    return network


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    """So many threads of torch while the block runs, and then as many as before."""
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
    """Shows samples, samples per second and times real time; yields what counts them."""
    began = time.monotonic()
    with progress_bar(total=total, unit=" samples", unit_scale=True, disable=not shown) as bar:

        def count(samples: int) -> None:
            speed = (bar.n + samples) / max(time.monotonic() - began, 1e-9) / sample_rate
            bar.set_postfix_str(f"{speed:.2f}x real time", refresh=False)
            bar.update(samples)

        yield count
