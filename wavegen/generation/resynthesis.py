"""Resynthesis: WAV files generated again from the features of recordings, or from features."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from wavegen.audio import reading
from wavegen.audio.feature_files import (
    SUFFIX,
    feature_files,
    is_feature_file,
    read_features,
)
from wavegen.audio.features import FeatureSet
from wavegen.audio.reading import AUDIO_SUFFIXES
from wavegen.data import labels as labelling
from wavegen.data.clip_features import ComputedFrames
from wavegen.data.folders import audio_files
from wavegen.distributions.sampling import Sampling
from wavegen.engines.choice import choose
from wavegen.errors import AudioFileError, ConfigError, DataError, WavegenError
from wavegen.generation.generate import MOST_SAMPLES, Stream, check_seed
from wavegen.generation.recipe import Source
from wavegen.generation.rounds import new_recipe, progress_of, write_round
from wavegen.generation.takes import Place, place_for
from wavegen.generation.transposition import transposed
from wavegen.models.base import Network
from wavegen.models.serialization import find_model, load_with_fingerprint
from wavegen.utils.device import pick_device
from wavegen.utils.distributed import share
from wavegen.utils.files import file_sha256, make_folder
from wavegen.utils.text import display

_logger = logging.getLogger(__name__)

T = TypeVar("T")

# Most files, and most samples, of which the features are in memory together.
_TOGETHER, _MOST_IN_MEMORY = 64, 2**27
# Files are generated together if the longest is at most so many times as long as the shortest, or
# as so many samples: the others wait for it.
_ALIKE, _SHORT = 2, 8000


@dataclass(frozen=True)
class Given:
    """An input, and what is generated from it.

    Args:
        path: the recording, or the file of features.
        frames: frames (F, D), an array or lazy.
        samples: length of the result in samples.
        transpose: semitones that the pitch was moved by.
    """

    path: Path
    frames: Any
    samples: int
    transpose: float


def resynthesize_files(
    model: str | Path,
    paths: Sequence[str | Path],
    out: str | Path,
    labels: labelling.Labels,
    *,
    transpose: float | None = None,
    seed: int = 0,
    sampling: Sampling | None = None,
    device: str | None = None,
    engine: str = "auto",
    precision: str = "float32",
    overwrite: bool = False,
    progress: bool = True,
    on_error: Callable[[WavegenError], object] | None = None,
) -> list[Path]:
    """Generate recordings again from their features, each as `NAME.wav` with its recipe.

    Args:
        model: run folder or model directory of a model with features.
        paths: recordings, folders of them, and `.npy` files of features (F, D) or (D, F).
        out: folder for the files; or the WAV file itself, for a single input.
        labels: attribute -> class; an attribute that is left out is unspecified.
        transpose: see `wavegen.generation.transposition.transposed`.
        seed, sampling, device, engine, precision, overwrite, progress: as in
            `wavegen.generation.wav_files.generate_files`.
        on_error: called with the error of an input that cannot be used, and the others are
            generated; by default the error is raised.

    Returns:
        Paths of the WAV files, in the order of the inputs.

    Raises:
        WavegenError: an argument is invalid, or a file cannot be read or written.
    """
    folder = find_model(model)
    network, model_sha256 = load_with_fingerprint(folder, pick_device(device))
    config = network.config
    definition = feature_set_of(network)
    labelling.encode(labels, config.labels)
    check_seed(seed)
    transposed(np.zeros((0, definition.size), np.float32), network, transpose)
    inputs = find_inputs(paths, on_error)
    place = place_for(Path(out), len(inputs), overwrite)
    reserved = _targets(inputs, place)
    measure = partial(_length, features=definition)
    lengths = dict(_usable(share(inputs), measure, on_error))

    def read(path: Path) -> tuple[Given, Source]:
        given = read_source(path, network, transpose)
        # The path without following links, whose targets may have another suffix.
        absolute = str(path.absolute())
        return given, Source(absolute, file_sha256(path, AudioFileError), given.transpose)

    chosen = choose(network, engine, precision, None if device else len(lengths))
    recipe = new_recipe(folder, model_sha256, chosen, precision, seed, sampling)
    if lengths:
        make_folder(place.folder)
    written: dict[Path, Path] = {}
    with progress_of(sum(lengths.values()), config.sample_rate, progress) as count:
        usable = list(lengths)
        for numbers in of_similar_lengths(list(lengths.values())):
            part = [usable[number] for number in numbers]
            pairs = [pair for _, pair in _usable(part, read, on_error)]
            if not pairs:
                continue
            given, sources = zip(*pairs, strict=True)
            streams = (Stream(labels),) * len(given)
            made = replace(recipe, streams=streams, sources=sources)
            takes = [
                replace(made, position=position, samples=each.samples)
                for position, each in enumerate(given)
            ]
            targets: list[Path] = []
            for each, take in zip(given, takes, strict=True):
                targets.append(place.path(_stem(each.path), take, {*reserved, *targets}))
            write_round(chosen, takes, targets, None, count, [each.frames for each in given])
            written |= zip((each.path for each in given), targets, strict=True)
    return [written[path] for path in inputs if path in written]


def find_inputs(
    paths: Sequence[str | Path], on_error: Callable[[WavegenError], object] | None = None
) -> list[Path]:
    """The recordings and `.npy` files that paths name: themselves, or all of a folder.

    Args:
        paths: files and folders.
        on_error: called with an error for each folder inside of them that cannot be opened.

    Raises:
        DataError: a path does not exist, or a folder holds neither recordings nor features.
        ConfigError: two inputs have the same name, so that their results would, too; or a folder
            holds both recordings and features.
    """
    found: list[Path] = []
    for each in map(Path, paths):
        if each.is_dir():
            found += _inside(each, on_error)
        elif each.exists():
            found.append(each)
        else:
            raise DataError(f"{display(each)}: no such file or folder")
    twice = [name for name, count in Counter(path.stem for path in found).items() if count > 1]
    if twice:
        raise ConfigError(
            f"two inputs have the name {display(twice[0])}: rename one, or resynthesize them one "
            "after the other into different folders"
        )
    return found


def _inside(folder: Path, on_error: Callable[[WavegenError], object] | None) -> list[Path]:
    """The files of features in a folder, or its recordings."""
    features = feature_files(folder)
    if not features:
        recordings, closed = audio_files(folder)
        for each in closed:
            if on_error is not None:
                on_error(DataError(f"{display(folder / each.name)}: {each.reason}"))
        return recordings
    if any(path.suffix.lower() in AUDIO_SUFFIXES for path in folder.rglob("*")):
        raise ConfigError(
            f"{display(folder)}: holds recordings and {SUFFIX} files: name those that you mean"
        )
    return features


def feature_set_of(network: Network) -> FeatureSet:
    """The features of a network; `ConfigError` if it has none."""
    if network.config.feature_set is None:
        raise ConfigError("the model has no features: train it with --data.features")
    return network.config.feature_set


def read_source(path: Path, network: Network, transpose: float | None) -> Given:
    """Read a recording or a `.npy` file.

    Args:
        path: the file.
        network: a network with features.
        transpose: see `wavegen.generation.transposition.transposed`.

    Raises:
        AudioFileError: the recording cannot be read.
        DataError: the file does not hold features of this definition.
    """
    frames, samples = _read(path, feature_set_of(network))
    moved, semitones = transposed(frames, network, transpose)
    column = feature_set_of(network).column("pitch")
    if column is not None and not np.any(moved[:][:, column + 1] > 0.5):
        _logger.warning("%s: has no pitch in any frame, such as a silent recording", display(path))
    return Given(path, moved, samples, semitones)


def _usable(
    paths: Sequence[Path],
    read: Callable[[Path], T],
    on_error: Callable[[WavegenError], object] | None,
) -> Iterator[tuple[Path, T]]:
    """Yield the inputs that can be read, with what is read."""
    for path in paths:
        try:
            found = read(path)
        except WavegenError as error:
            if on_error is None:
                raise
            on_error(error)
            continue
        yield path, found


def _read(path: Path, features: FeatureSet) -> tuple[Any, int]:
    """Frames (F, D), and the number of samples to generate from them."""
    if is_feature_file(path):
        frames = read_features(path, features)
        return frames, len(frames) * features.hop_length
    wave = reading.read(path, features.sample_rate)
    return ComputedFrames(features, wave), len(wave)


def _length(path: Path, features: FeatureSet) -> int:
    """About how many samples an input has; no recording is decoded."""
    if is_feature_file(path):
        samples = len(read_features(path, features)) * features.hop_length
    else:
        info, rate = reading.probe(path), features.sample_rate
        if info.sample_rate != rate:
            _logger.info("%s: resampled from %d to %d Hz", display(path), info.sample_rate, rate)
        samples = -(-info.frames * rate // info.sample_rate)
    if samples > MOST_SAMPLES:
        raise DataError(f"{display(path)}: is longer than a WAV file can be: cut it")
    return samples


def of_similar_lengths(lengths: Sequence[int]) -> list[list[int]]:
    """Numbers of inputs to generate together: few enough for the memory, and of similar lengths."""
    rounds: list[list[int]] = []
    held = shortest = 0
    for number in sorted(range(len(lengths)), key=lambda each: lengths[each]):
        held += lengths[number]
        full = not rounds or len(rounds[-1]) == _TOGETHER or held > _MOST_IN_MEMORY
        if full or lengths[number] > _ALIKE * max(shortest, _SHORT):
            rounds.append([])
            held = shortest = lengths[number]
        rounds[-1].append(number)
    return rounds


def _stem(path: Path) -> str:
    return labelling.file_name(display(path.stem))


def _targets(inputs: Sequence[Path], place: Place) -> set[Path]:
    """The places for the results; `ConfigError` if one would replace its input."""
    targets = {place.folder / (place.name or f"{_stem(path)}.wav") for path in inputs}
    resolved = {target.resolve() for target in targets}
    for path in inputs:
        if path.resolve() in resolved:
            raise ConfigError(
                f"{display(path)}: would be replaced: choose another folder for --out"
            )
    return targets
