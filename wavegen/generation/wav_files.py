"""Generated WAV files, each with its recipe: all it takes to make the same file again."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

import wavegen
from wavegen.audio import reading, writing
from wavegen.codecs.counts import count_clamped
from wavegen.data import labels as labelling
from wavegen.distributions.sampling import Sampling
from wavegen.engines.base import Engine
from wavegen.engines.choice import choose
from wavegen.errors import AudioFileError, ConfigError, LabelError, ModelError
from wavegen.generation.generate import (
    Stream,
    check_seed,
    pick_device,
    rounds,
    sample_count,
    stream_chunks,
)
from wavegen.generation.recipe import MOST_STREAMS, Recipe, read_recipe
from wavegen.generation.takes import free_path
from wavegen.models.base import Network
from wavegen.models.serialization import find_model, load_with_fingerprint
from wavegen.utils.distributed import share
from wavegen.utils.files import file_sha256, make_folder, write_json
from wavegen.utils.progress import progress_bar
from wavegen.utils.text import display


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
    out, single = _place(Path(out), len(streams))
    if join and prompt is None:
        raise ConfigError("--join puts a prompt before its continuation: name it with --prompt")
    heard = None
    if prompt is not None:
        heard = read_prompt(prompt, config.sample_rate, config.receptive_field)
    ours = share(streams)
    # A device that is named is kept to.
    chosen = choose(network, engine, precision, None if device else len(ours))
    make_folder(out)
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
        versions={
            "wavegen": wavegen.__version__,
            **{package: version(package) for package in ("torch", "numba")},
        },
        join=join,
    )
    written = []
    with _progress(len(ours) * samples, config.sample_rate, progress) as count:
        for part in rounds(ours, chosen.network, MOST_STREAMS):
            made = replace(recipe, streams=tuple(part))
            paths = []
            for position, stream in enumerate(part):
                path = out / (single or f"{file_stem(stream, config.labels, seed)}.wav")
                take = replace(made, position=position)
                paths.append(path if overwrite else free_path(path, take))
            _write_round(chosen, made, paths, heard, count)
            written += paths
    return written


def _place(out: Path, streams: int) -> tuple[Path, str]:
    """The folder for the files; and where `out` is a WAV file, its name."""
    if out.suffix.lower() != ".wav" or out.is_dir():
        return out, ""
    if streams > 1:
        raise ConfigError(f"{out}: is one file, and {streams} are asked for; name a folder")
    return out.parent, out.name


def _check_names(streams: Sequence[Stream], attributes: labelling.Attributes, seed: int) -> None:
    """Refuse labels that the network does not know, and two streams of one file name."""
    for stream in streams:
        labelling.encode(stream.labels, attributes)
    stems = {file_stem(stream, attributes, seed) for stream in streams}
    if len(stems) < len(streams):
        raise ConfigError("two of the streams would be written to one file")


def _write_round(
    engine: Engine,
    recipe: Recipe,
    paths: Sequence[Path],
    prompt: np.ndarray | None,
    count: Callable[[int], object],
) -> None:
    """Generate the streams of a recipe side by side, each into a file, with its recipe."""
    for path in paths:
        # Should this stop half-way, no old recipe lies beside a new recording.
        path.with_suffix(".json").unlink(missing_ok=True)
    with ExitStack() as stack:
        writers = [
            stack.enter_context(writing.WavWriter(path, recipe.sample_rate)) for path in paths
        ]
        for block in _joined(recipe):
            for writer in writers:
                writer.append(block)
        for chunk in _chunks(engine, recipe, prompt):
            for writer, waveform in zip(writers, chunk, strict=True):
                writer.append(waveform)
            count(chunk.size)
    for position, path in enumerate(paths):
        write_json(path.with_suffix(".json"), asdict(replace(recipe, position=position)))


def _chunks(engine: Engine, recipe: Recipe, prompt: np.ndarray | None) -> Iterator[np.ndarray]:
    """What `stream_chunks` gives of a recipe."""
    return stream_chunks(
        engine, recipe.streams, recipe.samples, recipe.seed, recipe.sampling, prompt
    )


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
        folder, single = _place(Path(out), 1)
        target = make_folder(folder) / (single or Path(recipe_path).with_suffix(".wav").name)
        if not overwrite:
            target = free_path(target, recipe)
        total = len(recipe.streams) * recipe.samples
        with (
            _progress(total, recipe.sample_rate, progress) as count,
            writing.WavWriter(target, recipe.sample_rate) as writer,
        ):
            for block in _joined(recipe):
                writer.append(block)
            for chunk in _chunks(engine, recipe, heard):
                writer.append(chunk[recipe.position])
                count(chunk.size)
    write_json(target.with_suffix(".json"), asdict(recipe))
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


def read_prompt(path: str | Path, sample_rate: int, most: int | None) -> np.ndarray:
    """The end of a recording, in memory that does not grow with its length where `most` is given.

    Args:
        path: of the recording.
        sample_rate: in Hz, to resample to; said where that differs from the file's.
        most: samples that are kept at most; None keeps all.

    Returns:
        float32 (time,), the last `most` samples or fewer.

    Raises:
        AudioFileError: as `reading.blocks`.
    """
    info = reading.probe(path)
    if info.sample_rate != sample_rate:
        _remark(f"{display(path)}: resampled from {info.sample_rate} to {sample_rate} Hz")
    kept: deque[np.ndarray] = deque()
    length = clamped = 0
    for block in reading.blocks(path, sample_rate):
        clamped += count_clamped(block)
        kept.append(block)
        length += len(block)
        while most is not None and length - len(kept[0]) >= most:
            length -= len(kept.popleft())
    if clamped:
        _remark(f"{display(path)}: {clamped} samples beyond full scale were clamped")
    return np.concatenate(kept)[-(most or length) :]


def _remark(text: str) -> None:
    """On standard error: standard output lists the files that were written."""
    print(text, file=sys.stderr)


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
