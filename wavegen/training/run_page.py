"""The page of a run folder, with the learning curve and all samples."""

import io
from collections.abc import Iterator
from html import escape
from itertools import chain
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np
from pytorch_lightning import Callback, LightningModule, Trainer

from wavegen.training.metrics import METRICS, read_metrics
from wavegen.training.run_folder import SAMPLES
from wavegen.utils.files import write_bytes, write_text

CURVE = "curve.png"
PAGE = "index.html"


class LearningCurve(NamedTuple):
    """Bits per sample against minutes of training; each line is (points,), float64.

    `order0_bits` is the entropy of the histogram of codes.
    """

    train_minutes: np.ndarray
    train_bits: np.ndarray
    minutes: np.ndarray
    val_bits: np.ndarray
    order0_bits: float


def learning_curve(run: Path) -> LearningCurve | None:
    """The learning curve of a run, from its metrics; None before its first validation.

    Earlier versions wrote a new file at each resumption, with minutes from 0; these are added up.
    """
    files = sorted(run.glob("metrics-*.csv"), key=lambda path: (len(path.name), path.name))
    trained: list[tuple[float, float]] = []
    validated: list[tuple[float, float]] = []
    before, order0 = 0.0, float("nan")
    for rows in chain.from_iterable(map(_parts, [*files, run / METRICS])):
        # Minutes are logged only at validations, so those of the steps between are interpolated.
        validations = [row for row in rows if row.get("val_bits") and row.get("minutes")]
        if not validations:
            continue
        steps = [int(rows[0]["step"]), *(int(row["step"]) for row in validations)]
        ends = [before, *(before + float(row["minutes"]) for row in validations)]
        for row in rows:
            if row.get("train_bits") and int(row["step"]) <= steps[-1]:
                when = float(np.interp(int(row["step"]), steps, ends))
                trained.append((when, float(row["train_bits"])))
        validated += zip(ends[1:], (float(row["val_bits"]) for row in validations), strict=True)
        order0 = float(validations[-1]["order0_bits"])
        before = ends[-1]
    if not validated:
        return None
    times, bits = np.array(trained, np.float64).reshape(-1, 2).T
    minutes, held_out = np.array(validated, np.float64).T
    return LearningCurve(times, bits, minutes, held_out, order0)


def _parts(path: Path) -> Iterator[list[dict[str, str]]]:
    """Rows of a metrics file, split where the minutes start at 0 again."""
    rows: list[dict[str, str]] = []
    latest = 0.0
    for row in read_metrics(path):
        if row.get("minutes"):
            if float(row["minutes"]) < latest:
                last = max(at for at, each in enumerate(rows) if each.get("minutes")) + 1
                yield rows[:last]
                rows = rows[last:]
            latest = float(row["minutes"])
        rows.append(row)
    yield rows


def curve_png(curve: LearningCurve, title: str) -> bytes:
    """The learning curve as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(curve.train_minutes, curve.train_bits, linewidth=0.5, alpha=0.6, label="training")
    axes.plot(curve.minutes, curve.val_bits, marker="o", markersize=3, label="held-out")
    axes.axhline(curve.order0_bits, color="gray", linestyle="--", label="order-0 entropy")
    axes.set(xlabel="minutes", ylabel="bits per sample", ylim=(0, None))
    axes.set_title(title, parse_math=False)
    axes.legend()
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return buffer.getvalue()


def page(run: Path) -> str:
    """The page of a run as HTML, with links to files of the run folder."""
    parts = []
    if (run / CURVE).is_file():
        parts.append(f'<img src="{CURVE}" alt="bits per sample against minutes">')
    for folder in sorted((run / SAMPLES).glob("step_*"), reverse=True):
        parts.append(f"<h2>Step {int(folder.name.removeprefix('step_')):,}</h2>")
        for wav in sorted(folder.glob("*.wav")):
            place = quote(str(wav.relative_to(run)))
            picture = quote(str(wav.with_suffix(".png").relative_to(run)))
            parts.append(
                f'<figure><figcaption>{escape(wav.stem)}</figcaption><audio controls preload="none"'
                f' src="{place}"></audio><br><img loading="lazy" src="{picture}" alt=""></figure>'
            )
    name = escape(run.resolve().name)
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{name}</title>\n'
        "<style>body{font-family:sans-serif;max-width:70em;margin:auto}"
        "figure{display:inline-block;margin:.5em}figure img{width:20em}</style>\n"
        f"<h1>{name}</h1>\n" + "\n".join(parts) + "\n</html>\n"
    )


class RunPage(Callback):
    """Draws the learning curve and writes the page at every validation of a training.

    This callback must come after the one that writes samples.

    Args:
        run: run folder.
    """

    def __init__(self, run: Path) -> None:
        self._run = run

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write both, in the first process only."""
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        curve = learning_curve(self._run)
        if curve is not None:
            write_bytes(self._run / CURVE, curve_png(curve, self._run.resolve().name))
        write_text(self._run / PAGE, page(self._run))
