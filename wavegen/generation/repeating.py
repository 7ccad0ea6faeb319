"""Generating a WAV again from its recipe."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from wavegen.data import labels as labelling
from wavegen.engines.choice import choose
from wavegen.errors import ConfigError, LabelError, ModelError
from wavegen.generation.prompts import read_prompt_for
from wavegen.generation.recipe import Recipe, read_recipe
from wavegen.generation.resynthesis import read_source
from wavegen.generation.rounds import progress_of, write_round
from wavegen.generation.takes import place_for
from wavegen.models.base import Network
from wavegen.models.serialization import find_model, load_with_fingerprint
from wavegen.utils.device import pick_device
from wavegen.utils.files import file_sha256, make_folder


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
        recipe_path: the JSON file of a WAV that was generated or resynthesised.
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
        prompt_end = read_prompt_for(network, recipe.prompt)
    frames = _frames_of(recipe, network, recipe_path)
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
        with progress_of(recipe.samples, recipe.sample_rate, progress) as count:
            write_round(engine, [recipe], [target], prompt_end, count, frames)
    return target


def _frames_of(recipe: Recipe, network: Network, recipe_path: str | Path) -> list[Any] | None:
    """The frames of each stream of a resynthesised WAV; `ModelError` if a file has changed."""
    if recipe.sources is None:
        return None
    for source in recipe.sources:
        if file_sha256(source.path, ModelError) != source.sha256:
            raise ModelError(f"{source.path}: has changed since {recipe_path} was written")
    try:
        return [
            read_source(Path(source.path), network, source.transpose).frames
            for source in recipe.sources
        ]
    except ConfigError as error:
        raise ModelError(f"{recipe_path}: {error}") from error


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
