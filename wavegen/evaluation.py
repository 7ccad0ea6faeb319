"""How good a model is: how well it predicts, and how its recordings compare with real ones.

A likelihood says nothing of how samples sound (Theis et al. 2016, "A note on the evaluation
of generative models"), so both are measured. For every held-out recording one is generated
with its labels and its length; whatever is measured of these is measured of the real ones
too, which is the column to compare with.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wavegen import audio, judge, mulaw
from wavegen.classification import MOST_COMBINATIONS, classify
from wavegen.clips import Clip, ClipSet
from wavegen.distances import (
    Figure,
    bootstrap,
    divergence,
    frechet,
    half_samples,
    kernel,
    log_mel,
    nearest,
    shape,
    statistics,
)
from wavegen.engines.choice import choose
from wavegen.errors import DataError
from wavegen.generate import Stream, rounds, stream_chunks
from wavegen.labels import Labels
from wavegen.sampling import Sampling
from wavegen.scoring import Source, score
from wavegen.store import AudioStore
from wavegen.wavenet import WaveNet

# Clips of training that others are compared with, and seconds of each that are looked at.
_MOST_TRAINING = 4000
_SECONDS = 4.0
# Decibels below full scale from which a clip counts as silent.
_SILENT = -60.0
# Streams that are generated to see whether they drift, and how long against others.
_LONG_STREAMS, _LONGER, _LONGEST_SECONDS = 4, 10, 30.0
_LEAST = 8


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Args:
        figures: by name, JSON with a `Figure` for each; see `evaluate`.
        real, generated: the held-out clips and their counterparts, float32 (time,) each.
        labels: of each of them.
    """

    figures: dict[str, Any]
    real: list[np.ndarray]
    generated: list[np.ndarray]
    labels: Sequence[Labels]


def evaluate(
    network: WaveNet,
    clip_set: ClipSet,
    store: AudioStore,
    *,
    sampling: Sampling | None = None,
    seed: int = 0,
    most: int = 500,
    combinations: int = MOST_COMBINATIONS,
    engine: str = "auto",
    precision: str = "float32",
    say: Callable[[str], object] = str,
) -> Evaluation:
    """Measure a network on the clips of the test split, or of validation if there is none.

    Args:
        network: in evaluation mode.
        clip_set: with a training split to compare with; the clips of `store`.
        store: at the rate of the network.
        sampling: how codes are drawn.
        seed: of the noise and of the choice of clips.
        most: held-out clips that are looked at; chosen by chance where there are more.
        combinations, engine, precision: as in `classify` and `choose`.
        say: told what is being done.

    Raises:
        DataError: too few clips are held out.
        ConfigError, LabelError: as their messages say.
    """
    config, rate = network.config, network.config.sample_rate
    numbers = {split: _numbers(clip_set, split) for split in ("train", "validation", "test")}
    split = "test" if numbers["test"] else "validation"
    chance = np.random.default_rng(seed)
    held_out = _some(numbers[split], most, chance)
    training = _some(numbers["train"], _MOST_TRAINING, chance)
    if len(held_out) < _LEAST or len(training) < _LEAST:
        raise DataError(
            f"{clip_set.folder}: {len(held_out)} clips are held out and {len(training)} are for "
            f"training; figures need {_LEAST} of each"
        )
    clips = [clip_set.clips[number] for number in held_out]
    labels = [_known(clip, network) for clip in clips]
    real = [np.array(store.waveform(number)) for number in held_out]

    say(f"scoring {len(clips)} clips of the {split} split")
    likelihood, classification = _likelihood(network, clips, labels, real, combinations, say)

    say(f"generating {len(clips)} recordings with their labels and lengths")
    made = choose(network, engine, precision)
    streams = _streams(labels)
    generated = list(_generated(made, streams, [len(wave) for wave in real], seed, sampling))
    drift = _drift(made, streams, real, seed, sampling)

    say(f"comparing with {len(training)} clips of training")
    limit = round(_SECONDS * rate)
    trained = [np.array(store.waveform(number)[:limit]) for number in training]
    columns = {
        "generated": [wave[:limit] for wave in generated],
        "real": [wave[:limit] for wave in real],
    }
    samples = _compared(columns, trained, rate, config.quantization_channels)
    known = [_known(clip_set.clips[number], network) for number in training]
    recognised = {}
    for attribute in config.labels:
        say(f"training a judge of {attribute}")
        recognised[attribute] = _recognised(attribute, columns, labels, trained, known, rate)
    return Evaluation(
        {
            "split": split,
            "clips": len(clips),
            "seconds": sum(map(len, real)) / rate,
            "likelihood": likelihood,
            "classification_by_likelihood": classification,
            "samples": samples,
            "recognised_by_a_judge": recognised,
            "drift": drift,
        },
        real,
        generated,
        labels,
    )


def _numbers(clip_set: ClipSet, split: str) -> list[int]:
    return [number for number, clip in enumerate(clip_set.clips) if clip.split == split]


def _some(numbers: Sequence[int], most: int, chance: np.random.Generator) -> list[int]:
    if len(numbers) <= most:
        return list(numbers)
    return sorted(chance.choice(np.array(numbers), most, replace=False).tolist())


def _known(clip: Clip, network: WaveNet) -> dict[str, str]:
    """The labels of a clip that the network has learned."""
    attributes = network.config.labels
    return {name: each for name, each in clip.labels.items() if each in attributes.get(name, ())}


def _likelihood(
    network: WaveNet,
    clips: Sequence[Clip],
    labels: Sequence[Labels],
    waves: Sequence[np.ndarray],
    combinations: int,
    say: Callable[[str], object],
) -> tuple[dict[str, Any], dict[str, Any]]:
    rate, channels = network.config.sample_rate, network.config.quantization_channels
    together: dict[tuple[tuple[str, str], ...], list[int]] = defaultdict(list)
    for number, kind in enumerate(labels):
        together[tuple(sorted(kind.items()))].append(number)
    bits, samples = np.zeros(len(clips)), np.zeros(len(clips))
    for each, members in together.items():
        scores = score(network, [Source(clips[number].path) for number in members], dict(each))
        for number, result in zip(members, scores, strict=True):
            if result.error:
                raise DataError(f"{clips[number].path}: {result.error}")
            bits[number], samples[number] = result.bits[0], result.samples
    counts = np.stack([_histogram(wave, channels) for wave in waves])
    # A file's headers and all, as people know it.
    flac = np.array([8 * len(audio.encoded(wave, rate, "FLAC")) for wave in waves])
    lengths = np.array([len(wave) for wave in waves])
    figures = {
        "bits_per_sample": bootstrap(lambda n: bits[n].sum() / samples[n].sum(), len(clips)),
        "uniform": float(np.log2(channels)),
        "order0": bootstrap(lambda n: mulaw.entropy(counts[n].sum(axis=0)), len(clips)),
        "flac_16_bit": bootstrap(lambda n: flac[n].sum() / lengths[n].sum(), len(clips)),
    }
    if not network.config.labels:
        return figures, {}
    say("classifying them by likelihood")
    right: dict[str, list[bool]] = defaultdict(list)
    found = classify(network, [Source(clip.path) for clip in clips], combinations=combinations)
    for kind, taken_for in zip(labels, found, strict=True):
        for attribute, true in kind.items():
            right[attribute].append(taken_for.predicted[attribute] == true)
    return figures, {attribute: _share(each) for attribute, each in right.items()}


def _share(hits: Sequence[bool] | np.ndarray) -> Figure:
    """How often it is so, with an interval."""
    array = np.array(hits, float)
    return bootstrap(lambda n: float(array[n].mean()), len(array))


def _histogram(wave: np.ndarray, channels: int) -> np.ndarray:
    return np.bincount(mulaw.encode(wave, channels), minlength=channels)


def _streams(labels: Sequence[Labels]) -> list[Stream]:
    """One for each of the labels, with noise of its own."""
    count: Counter[tuple[tuple[str, str], ...]] = Counter()
    streams = []
    for kind in labels:
        key = tuple(sorted(kind.items()))
        streams.append(Stream(kind, count[key]))
        count[key] += 1
    return streams


def _generated(
    engine: Any,
    streams: Sequence[Stream],
    lengths: Sequence[int],
    seed: int,
    sampling: Sampling | None,
) -> Iterator[np.ndarray]:
    """A recording of each stream, in their order; those of about one length side by side."""
    order = sorted(range(len(streams)), key=lambda number: lengths[number])
    made: dict[int, np.ndarray] = {}
    for part in rounds(order, engine.network):
        longest = max(lengths[number] for number in part)
        chunks = stream_chunks(engine, [streams[n] for n in part], longest, seed, sampling)
        waves = np.concatenate(list(chunks), axis=1)
        made |= {number: waves[row, : lengths[number]] for row, number in enumerate(part)}
    return (made[number] for number in range(len(streams)))


def _drift(
    engine: Any,
    streams: Sequence[Stream],
    real: Sequence[np.ndarray],
    seed: int,
    sampling: Sampling | None,
) -> dict[str, Any]:
    """How the last quarter of long recordings differs from the first."""
    rate = engine.network.config.sample_rate
    seconds = min(_LONGEST_SECONDS, _LONGER * float(np.median([len(w) for w in real])) / rate)
    chosen = streams[:_LONG_STREAMS]
    long = list(_generated(engine, chosen, [round(seconds * rate)] * len(chosen), seed, sampling))
    quarter = len(long[0]) // 4
    ends = [(wave[:quarter], wave[-quarter:]) for wave in long]
    level = np.array([_decibels(last) - _decibels(first) for first, last in ends])
    spectra = [[log_mel(part, rate).mean(axis=0) for part in each] for each in ends]
    # Natural logarithms of power: 4.34 decibels each.
    spectrum = 4.343 * np.array([np.abs(last - first).mean() for first, last in spectra])
    return {
        "seconds": seconds,
        "level_decibels": bootstrap(lambda n: float(level[n].mean()), len(level)),
        "spectrum_decibels": bootstrap(lambda n: float(spectrum[n].mean()), len(level)),
    }


def _decibels(wave: np.ndarray) -> float:
    return 10 * float(np.log10(np.mean(np.square(wave, dtype=np.float64)) + 1e-10))


def _compared(
    columns: dict[str, list[np.ndarray]], trained: list[np.ndarray], rate: int, channels: int
) -> dict[str, dict[str, Figure]]:
    """Figures of each column against training, by name."""
    spectra = [log_mel(wave, rate) for wave in trained]
    of_training = np.stack([statistics(each) for each in spectra])
    mean, deviation = of_training.mean(axis=0), of_training.std(axis=0) + 1e-3
    reference, shapes = (of_training - mean) / deviation, np.stack([shape(s) for s in spectra])
    counts = np.sum([_histogram(wave, channels) for wave in trained], axis=0)
    result: dict[str, dict[str, Figure]] = defaultdict(dict)
    distances = {}
    for name, waves in columns.items():
        size = len(waves)
        spectra = [log_mel(wave, rate) for wave in waves]
        rows = (np.stack([statistics(each) for each in spectra]) - mean) / deviation
        distances[name] = nearest(np.stack([shape(each) for each in spectra]), shapes)
        own = np.stack([_histogram(wave, channels) for wave in waves])
        silent = np.array([_decibels(wave) < _SILENT for wave in waves], float)
        clipped = np.array([np.mean(np.abs(wave) > 0.99) for wave in waves])
        offset = np.array([abs(float(wave.mean())) for wave in waves])
        result["frechet_log_mel"][name] = half_samples(lambda n: frechet(rows[n], reference), size)
        result["kernel_log_mel"][name] = half_samples(lambda n: kernel(rows[n], reference), size)
        result["code_divergence"][name] = bootstrap(
            lambda n: divergence(own[n].sum(axis=0), counts), size
        )
        for what, values in {
            "silent_clips": silent,
            "clipped_samples": clipped,
            "offset": offset,
        }.items():
            result[what][name] = bootstrap(lambda n: float(values[n].mean()), size)
        result["nearest_training_clip"][name] = bootstrap(
            lambda n: float(np.median(distances[name][n])), size
        )
    one, other = distances["generated"], distances["real"]
    # 1: as far from what was heard in training as what was not. Less: copies.
    result["nearest_generated_over_real"]["generated"] = bootstrap(
        lambda n: float(np.median(one[n]) / np.median(other[n])), len(one)
    )
    return dict(result)


def _recognised(
    attribute: str,
    columns: dict[str, list[np.ndarray]],
    labels: Sequence[Labels],
    trained: Sequence[np.ndarray],
    known: Sequence[Labels],
    rate: int,
) -> dict[str, Figure]:
    """How often a judge, trained on the training clips, hears the class that it should be."""
    classes = sorted({kind[attribute] for kind in known if attribute in kind})
    asked = [n for n, kind in enumerate(labels) if kind.get(attribute) in classes]
    heard = [n for n, kind in enumerate(known) if attribute in kind]
    if len(classes) < 2 or not asked:
        return {}
    number = {name: place for place, name in enumerate(classes)}
    targets = np.array([number[known[n][attribute]] for n in heard])
    classifier = judge.train([trained[n] for n in heard], targets, rate)
    right = np.array([number[labels[n][attribute]] for n in asked])
    return {
        name: _share(judge.predict(classifier, [waves[n] for n in asked]) == right)
        for name, waves in columns.items()
    }
