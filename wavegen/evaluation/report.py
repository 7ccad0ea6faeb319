"""The report of an evaluation: one self-contained page, and one JSON file."""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from html import escape as escape_markup
from pathlib import Path
from typing import Any

import numpy as np

from wavegen.audio import writing
from wavegen.audio.plots import spectrogram_png
from wavegen.evaluation.evaluate import Evaluation
from wavegen.evaluation.intervals import Figure
from wavegen.utils.files import make_folder, write_json, write_text
from wavegen.utils.text import display

# Number of classes of an attribute with players, and seconds of each.
_MOST_CLASSES, _SECONDS = 50, 5.0
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 }
td, th { padding: .3rem .8rem; border-bottom: 1px solid #ccc; text-align: right }
td:first-child, th:first-child { text-align: left }
small { color: #666 }
figure { display: inline-block; margin: .5rem; width: 30rem }
img, audio { width: 100% }
"""
# Titles of confusion matrices, by the way of classifying.
_SAID_BY = {
    "generated": "generated clips, by a label classifier",
    "real": "real clips, by a label classifier",
    "griffin_lim": "copies by Griffin-Lim, by a label classifier",
    "codec": "encoded and decoded clips, by a label classifier",
    "by_likelihood": "real clips, by the likelihood of this model",
}
# Texts for figures; a figure without a text is shown by its name.
_WORDS = {
    "bits_per_sample": "bits per sample, this model",
    "uniform": "bits per sample, guessing",
    "order0": "bits per sample, from the histogram of these codes",
    "flac_16_bit": "bits per sample of a 16-bit FLAC of the same clips",
    "frechet_log_mel": "Frechet distance to training, log-mel statistics (less is nearer)",
    "kernel_log_mel": "kernel distance to training, log-mel statistics (about 0 is similar)",
    "code_divergence": "divergence of code histograms from training, bits (0 to 1)",
    "silent_clips": "share of silent clips",
    "clipped_samples": "share of clipped samples",
    "offset": "mean of a clip away from zero",
    "nearest_training_clip": "median distance to the nearest clip of training",
    "nearest_generated_over_real": "the same, generated over real (well below 1: copies)",
    "log_mel_distance": "log-mel distance, dB",
    "mel_cepstral_distance": "mel-cepstral distance, dB",
    "stoi": "STOI (intelligibility, at most 1)",
    "pesq": "PESQ (quality, at most 4.6)",
    "visqol": "ViSQOL (quality, at most 5)",
    "pitch_error": "median error of pitch in voiced frames, cents",
    "voicing_error": "share of frames that are voiced in only one of both",
    "seconds": "length, seconds",
    "level_decibels": "change of level from the first quarter to the last, dB",
    "spectrum_decibels": "change of spectrum between them, dB",
}


def escape(text: str) -> str:
    """`text` escaped for HTML."""
    return escape_markup(display(text))


def write_report(out: str | Path, evaluation: Evaluation, about: dict[str, Any]) -> list[Path]:
    """Write report.json and report.html into a folder and return their paths.

    Args:
        out: folder, which is made if it does not exist.
        evaluation: the results.
        about: settings of the evaluation, including "model", "data" and "sample_rate".
    """
    folder = make_folder(out)
    paths = [folder / "report.json", folder / "report.html"]
    write_json(paths[0], {**about, **_plain(evaluation.figures)})
    write_text(paths[1], "".join(_page(evaluation, about)))
    return paths


def _plain(value: Any) -> Any:
    if isinstance(value, Figure):
        return asdict(value)
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value


def _page(evaluation: Evaluation, about: dict[str, Any]) -> Iterator[str]:
    figures = evaluation.figures
    title = f"{escape(str(about['model']))} on {escape(str(about['data']))}"
    yield f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>"
    yield f"<h1>{title}</h1><p><strong>{escape(figures['verdict'])}</strong></p>"
    yield f"<p>{figures['clips']} clips of the {figures['split']} split, "
    yield f"{figures['seconds']:.0f} s. In brackets: where 95 % of draws over clips lie (of "
    yield "half samples for distances between sets; of shares the exact interval).</p>"
    yield "<h2>How well it predicts</h2>"
    yield from _table(figures["likelihood"].items())
    if figures["classification_by_likelihood"]:
        yield f"<h2>Classes by likelihood, share right of {figures['clips_classified']} clips</h2>"
        yield from _table(figures["classification_by_likelihood"].items())
    columns: tuple[str, ...] = ("generated", "real", *evaluation.rivals)
    if figures["copy_synthesis"]:
        yield "<h2>Clips generated again from their features, compared with the originals</h2>"
        yield "<p>codec: encoded and decoded, the best that any model with this codec can do.</p>"
        yield from _table(figures["copy_synthesis"].items(), ("generated", *evaluation.rivals))
    yield "<h2>What it generates, beside real clips that were held out</h2>"
    recognised = {
        f"share whose {attribute} a label classifier, trained on real clips, recognises": c
        for attribute, c in figures["recognised_by_a_judge"].items()
        if c
    }
    yield from _table({**recognised, **figures["samples"]}.items(), columns)
    for attribute, matrices in figures["confusion"].items():
        yield from _confusions(attribute, matrices)
    if figures["drift"]:
        yield "<h2>Long samples</h2>"
        yield from _table(figures["drift"].items())
    for attribute, classes in evaluation.attributes.items():
        yield f"<h2>{escape(attribute)}</h2>"
        if len(classes) > _MOST_CLASSES:
            yield f"<p>The first {_MOST_CLASSES} of {len(classes)} classes.</p>"
        for name in classes[:_MOST_CLASSES]:
            yield from _pair(evaluation, attribute, name, about["sample_rate"])
    if not evaluation.attributes:
        yield "<h2>Recordings</h2>"
        yield from _pair(evaluation, None, "", about["sample_rate"])
    yield "<h2>Settings</h2><table>"
    for name, value in about.items():
        yield f"<tr><td>{escape(name)}<td>{escape(str(value))}"
    yield "</table>"


def _table(rows: Any, columns: tuple[str, ...] = ()) -> Iterator[str]:
    yield "<table>"
    if columns:
        yield "<tr><th>" + "".join(f"<th>{name}" for name in columns)
    for name, value in rows:
        yield f"<tr><td>{escape(_WORDS.get(name, name))}"
        for cell in [value.get(column) for column in columns] if columns else [value]:
            yield f"<td>{_cell(cell)}"
    yield "</table>"


def _confusions(attribute: str, matrices: Mapping[str, Any]) -> Iterator[str]:
    """A table for each way of classifying: true classes by row, found classes by column."""
    for by, matrix in matrices.items():
        classes, counts = matrix["classes"], matrix["counts"]
        yield f"<h3>{escape(attribute)} of {_SAID_BY[by]}</h3>"
        if len(classes) > _MOST_CLASSES:
            yield f"<p>{len(classes)} classes: the matrix is in report.json.</p>"
            continue
        yield "<table><tr><th>should be \\ taken for"
        yield from (f"<th>{escape(name)}" for name in classes)
        for name, row in zip(classes, counts, strict=True):
            yield f"<tr><td>{escape(name)}"
            for count in row:
                # The colour shows the share of the clips of the class.
                share = count / max(1, sum(row))
                yield f'<td style="background:rgba(31,119,180,{share:.2f})">{count or ""}'
        yield "</table>"


def _cell(value: Any) -> str:
    if isinstance(value, Figure):
        return f"{value.value:.3f} <small>({value.low:.3f} to {value.high:.3f})</small>"
    return "" if value is None else f"{value:.3f}"


def _pair(
    evaluation: Evaluation, attribute: str | None, name: str, sample_rate: int
) -> Iterator[str]:
    """Pictures and players of the first clip of a class and of its counterpart."""
    found = (
        number
        for number, kind in enumerate(evaluation.labels)
        if attribute is None or kind.get(attribute) == name
    )
    if (number := next(found, None)) is None:
        return
    labels = ", ".join(f"{key} {each}" for key, each in evaluation.labels[number].items())
    columns = {"real": evaluation.real, "generated": evaluation.generated, **evaluation.rivals}
    for what, waves in columns.items():
        wave = waves[number][: round(_SECONDS * sample_rate)]
        yield from _player(wave, sample_rate, f"{what}: {labels}" if labels else what)


def _player(wave: np.ndarray, sample_rate: int, title: str) -> Iterator[str]:
    picture = base64.b64encode(spectrogram_png(wave, sample_rate, title)).decode()
    sound = base64.b64encode(writing.encoded(wave, sample_rate, "WAV")).decode()
    yield f'<figure><img alt="{escape(title)}" src="data:image/png;base64,{picture}">'
    yield f'<audio controls src="data:audio/wav;base64,{sound}"></audio></figure>'


def summary(figures: dict[str, Any]) -> str:
    """The most important figures as text for a terminal."""
    lines = [
        figures["verdict"],
        f"{figures['clips']} clips of the {figures['split']} split",
    ]

    def say(words: str, value: Any) -> None:
        if isinstance(value, Figure):
            value = f"{value.value:.3f}  ({value.low:.3f} to {value.high:.3f})"
        elif isinstance(value, float):
            value = f"{value:.3f}"
        lines.append(f"  {words:<66}{value}")

    for name, value in figures["likelihood"].items():
        say(_WORDS[name], value)
    for attribute, value in figures["classification_by_likelihood"].items():
        say(f"{attribute} right by likelihood", value)
    for attribute, columns in figures["recognised_by_a_judge"].items():
        for column, value in columns.items():
            say(f"{attribute} of {column} clips recognised by a label classifier", value)
    for name, columns in figures["samples"].items():
        for column, value in columns.items():
            say(f"{name}, {column}", value)
    for name, columns in figures["copy_synthesis"].items():
        for column, value in columns.items():
            say(f"{_WORDS[name]}, {column}", value)
    for name, value in figures["drift"].items():
        say(f"long samples: {_WORDS[name].split(',')[0]}", value)
    return "\n".join(map(display, lines))
