"""Generating WAV files, each with a recipe to generate the same file again."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from wavegen.data import labels as labelling
from wavegen.distributions.sampling import Sampling
from wavegen.engines.choice import choose
from wavegen.errors import AudioFileError, ConfigError
from wavegen.generation.generate import (
    Stream,
    check_seed,
    rounds,
    sample_count,
)
from wavegen.generation.prompts import read_prompt_for
from wavegen.generation.recipe import MOST_STREAMS
from wavegen.generation.rounds import new_recipe, progress_of, write_round
from wavegen.generation.takes import place_for
from wavegen.models.serialization import find_model, load_with_fingerprint
from wavegen.utils.device import pick_device
from wavegen.utils.distributed import share
from wavegen.utils.files import file_sha256, make_folder

_logger = logging.getLogger(__name__)


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
        prompt_end = read_prompt_for(network, prompt)
    if config.sound_features is not None:
        _logger.warning(
            "the features of this model (%s) are left unspecified; 'wavegen resynthesize' "
            "generates from those of recordings",
            config.sound_features.name,
        )
    ours = share(streams)
    # Stay on the device that the user has named.
    chosen = choose(network, engine, precision, None if device else len(ours))
    make_folder(place.folder)
    recipe = replace(
        new_recipe(folder, model_sha256, chosen, precision, seed, sampling),
        samples=samples,
        prompt=None if prompt is None else str(Path(prompt).resolve()),
        prompt_sha256=None if prompt is None else file_sha256(prompt, AudioFileError),
        join=join,
    )
    written = []
    with progress_of(len(ours) * samples, config.sample_rate, progress) as count:
        for part in rounds(ours, chosen.network, MOST_STREAMS):
            made = replace(recipe, streams=tuple(part))
            takes = [replace(made, position=position) for position in range(len(part))]
            stems = [file_stem(stream, config.labels, seed) for stream in part]
            paths = [place.path(*each) for each in zip(stems, takes, strict=True)]
            write_round(chosen, takes, paths, prompt_end, count)
            written += paths
    return written


def _check_names(streams: Sequence[Stream], attributes: labelling.Attributes, seed: int) -> None:
    """Refuse labels that the network does not know, and two streams with the same file name."""
    for stream in streams:
        labelling.encode(stream.labels, attributes)
    stems = {file_stem(stream, attributes, seed) for stream in streams}
    if len(stems) < len(streams):
        raise ConfigError("two of the streams have the same file name: give each another index")


def file_stem(stream: Stream, attributes: labelling.Attributes, seed: int) -> str:
    """`LABEL_SEED_INDEX`; characters that a file name cannot hold become %XX."""
    return f"{labelling.file_stem(stream.labels, attributes)}_{seed}_{stream.index}"
