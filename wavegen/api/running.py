"""`wavegen.train`: training on a folder of recordings."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from wavegen.api.model import Model, load
from wavegen.errors import ConfigError
from wavegen.models.serialization import best_figures


@dataclass(frozen=True)
class Run:
    """A finished training run; its `folder` can be resumed and loaded."""

    folder: Path

    @cached_property
    def model(self) -> Model:
        """The best model of the run."""
        return load(self.folder)

    @property
    def best_bits(self) -> float | None:
        """Held-out bits per sample of the best model; None if there was no validation."""
        return best_figures(self.folder).get("val_bits")


def train(
    folder: str | Path | None = None,
    *,
    run: str | Path | None = None,
    resume: str | Path | None = None,
    config: str | Path | None = None,
    max_time: str | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    network: Mapping[str, object] | None = None,
    **options: object,
) -> Run:
    """Train on a folder of recordings, as `wavegen train` does.

    Args:
        folder: folder of the recordings.
        run: run folder to make; `runs/NAME` by default.
        resume: run folder to resume, instead of `folder`.
        config: name of a recipe, such as `digits`, or a YAML file with any of the options.
        max_time: longest duration, such as `15m`, `1h30m` or `1:00:00`.
        steps: largest number of optimizer steps.
        epochs: largest number of epochs.
        network: fields of the architecture, such as `{"layers": 16}`.
        options: groups of further options, such as `data={"batch_size": 8}`,
            `model={"learning_rate": 1e-3}` or `trainer={"accelerator": "cpu"}`; and options
            without a group, such as `ema_decay=0`.

    Raises:
        WavegenError: the data or an option cannot be used; the message says which.
    """
    # Lightning takes seconds to import.
    from wavegen.training import train as training

    words = [] if folder is None else [str(folder)]
    given: dict[str, object] = {"run": run, "resume": resume, "config": config}
    given |= {"trainer.max_time": max_time, "trainer.max_steps": steps}
    given |= {"trainer.max_epochs": epochs}
    given |= {f"model.network.{name}": value for name, value in (network or {}).items()}
    for group, values in options.items():
        if isinstance(values, Mapping):
            given |= {f"{group}.{name}": value for name, value in values.items()}
        elif group in ("data", "model", "trainer"):
            raise ConfigError(f"{group} is {values!r:.40}: give a dictionary of its options")
        else:
            given[group] = values
    words += [f"--{name}={_option(value)}" for name, value in given.items() if value is not None]
    return Run(training.train(words))


def _option(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(str, value))}]"
    return str(value)
