"""Resynthesis: WAV files generated again from the features of recordings, or from features."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from wavegen.audio import reading
from wavegen.audio.feature_files import SUFFIX, is_feature_file, read_features
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
from wavegen.generation.takes import place_for
from wavegen.generation.transposition import transposed
from wavegen.models.base import Network
from wavegen.models.serialization import find_model, load_with_fingerprint
from wavegen.utils.device import pick_device
from wavegen.utils.distributed import share
from wavegen.utils.files import file_sha256, make_folder
from wavegen.utils.text import display

_logger = logging.getLogger(__name__)

# Most files, and most samples, of which the features are in memory together.
_TOGETHER, _MOST_IN_MEMORY = 64, 2**27


@dataclass(frozen=True)
class Given:
    """What a source gives to generate from.

    Args:
        frames: frames (F, D), an array or lazy.
        samples: length of the result in samples.
        transpose: semitones that the pitch was moved by.
    """

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
    inputs = find_inputs(paths)
    place = place_for(Path(out), len(inputs), overwrite)
    _check_targets(inputs, place.folder, place.name)
    lengths = _lengths(share(inputs), definition, on_error)
    chosen = choose(network, engine, precision, None if device else len(lengths))
    recipe = new_recipe(folder, model_sha256, chosen, precision, seed, sampling)
    if lengths:
        make_folder(place.folder)
    written: dict[Path, Path] = {}
    with progress_of(sum(lengths.values()), config.sample_rate, progress) as count:
        for part in _rounds(lengths):
            given = [read_source(path, network, transpose) for path in part]
            sources = tuple(
                Source(str(path.resolve()), file_sha256(path, AudioFileError), each.transpose)
                for path, each in zip(part, given, strict=True)
            )
            made = replace(recipe, streams=(Stream(labels),) * len(part), sources=sources)
            takes = [
                replace(made, position=position, samples=each.samples)
                for position, each in enumerate(given)
            ]
            targets = [
                place.path(labelling.file_name(display(path.stem)), take)
                for path, take in zip(part, takes, strict=True)
            ]
            write_round(chosen, takes, targets, None, count, [each.frames for each in given])
            written |= zip(part, targets, strict=True)
    return [written[path] for path in inputs if path in written]


def find_inputs(paths: Sequence[str | Path]) -> list[Path]:
    """The recordings and `.npy` files that paths name: themselves, or all of a folder.

    Raises:
        DataError: a path does not exist, or a folder holds neither recordings nor features.
        ConfigError: two inputs have the same name, so that their results would, too; or a folder
            holds both recordings and features.
    """
    found: list[Path] = []
    for each in map(Path, paths):
        if each.is_dir():
            found += _inside(each)
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


def _inside(folder: Path) -> list[Path]:
    """The files of features in a folder, or its recordings."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    features = sorted(path for path in files if is_feature_file(path))
    if not features:
        return audio_files(folder)[0]
    if any(path.suffix.lower() in AUDIO_SUFFIXES for path in files):
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
    if column is not None and len(frames) and not np.any(moved[:][:, column + 1] > 0.5):
        _logger.warning("%s: has no pitch in any frame, such as a silent recording", display(path))
    return Given(moved, samples, semitones)


def _read(path: Path, features: FeatureSet) -> tuple[Any, int]:
    """Frames (F, D), and the number of samples to generate from them."""
    if is_feature_file(path):
        frames = read_features(path, features)
        return frames, len(frames) * features.hop_length
    wave = reading.read(path, features.sample_rate)
    return ComputedFrames(features, wave), len(wave)


def _lengths(
    inputs: Sequence[Path],
    features: FeatureSet,
    on_error: Callable[[WavegenError], object] | None,
) -> dict[Path, int]:
    """The samples to generate for each input that can be used."""
    lengths = {}
    for path in inputs:
        try:
            _, samples = _read(path, features)
            if samples > MOST_SAMPLES:
                raise DataError(f"{display(path)}: is longer than a WAV file can be: cut it")
        except WavegenError as error:
            if on_error is None:
                raise
            on_error(error)
            continue
        lengths[path] = samples
        if not is_feature_file(path):
            rate = reading.probe(path).sample_rate
            if rate != features.sample_rate:
                wanted = features.sample_rate
                _logger.info("%s: resampled from %d to %d Hz", display(path), rate, wanted)
    return lengths


def _rounds(lengths: dict[Path, int]) -> list[list[Path]]:
    """Inputs to generate together: of similar lengths, and few enough for the memory."""
    rounds: list[list[Path]] = []
    held = 0
    for path in sorted(lengths, key=lambda each: lengths[each]):
        held += lengths[path]
        if not rounds or len(rounds[-1]) == _TOGETHER or held > _MOST_IN_MEMORY:
            rounds.append([])
            held = lengths[path]
        rounds[-1].append(path)
    return rounds


def _check_targets(inputs: Sequence[Path], folder: Path, name: str) -> None:
    """Refuse to replace an input by its result."""
    for path in inputs:
        target = folder / (name or f"{labelling.file_name(display(path.stem))}.wav")
        if target.resolve() == path.resolve():
            raise ConfigError(
                f"{display(path)}: would be replaced: choose another folder for --out"
            )
