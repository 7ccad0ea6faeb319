"""`metrics.csv` of a run: one row for each logged step, continued when the run is resumed."""

import csv
import io
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from wavegen.utils.files import write_text

METRICS = "metrics.csv"
# The file is written after this many new rows, and at each validation.
_ROWS = 50


class MetricsFile(Logger):
    """Figures by step; all figures of a step are one row.

    Existing rows are kept, except those from the first new step on: a resumed training repeats
    the steps that a killed one had done after its last checkpoint.

    Args:
        run: run folder.
    """

    def __init__(self, run: Path) -> None:
        super().__init__()
        self._path = run / METRICS
        self._rows: list[dict[str, object]] | None = None
        self._unwritten = 0

    @property
    def name(self) -> str:
        """Empty: the file is in the run folder itself."""
        return ""

    @property
    def version(self) -> str:
        """Empty, as `name`."""
        return ""

    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Do nothing: the settings are in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add figures of a step."""
        step = 0 if step is None else step
        if self._rows is None:
            self._rows = [row for row in read_metrics(self._path) if int(str(row["step"])) < step]
        if not self._rows or self._rows[-1]["step"] != step:
            self._rows.append({"step": step})
            self._unwritten += 1
        self._rows[-1].update(metrics)
        if self._unwritten >= _ROWS or "val_bits" in metrics:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Write the whole file."""
        if self._rows:
            names = dict.fromkeys(name for row in self._rows for name in row)
            text = io.StringIO()
            writer = csv.DictWriter(text, list(names), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self._rows)
            write_text(self._path, text.getvalue())
        self._unwritten = 0

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the rows that have not been written yet."""
        self.save()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of a metrics file, column -> text; empty if the file is missing or damaged."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [row for row in rows if int(row["step"]) >= 0]
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return []
