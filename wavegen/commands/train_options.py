"""The help of `wavegen train`, and the short forms of its options.

LightningCLI parses the options, but takes seconds to load. This module does without it.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from wavegen.commands.options import names_of
from wavegen.utils.suggestions import unknown_option


class Option(NamedTuple):
    """A line of the help: `--name METAVAR  text (default: default)`."""

    name: str
    metavar: str
    text: str
    default: str = ""


# "from the data" and "by device" are defaults that depend on the recordings or on the machine.
GROUPS = {
    "run": [
        Option("run", "FOLDER", "run folder", "runs/DATA"),
        Option("resume", "RUN", "continue this run"),
        Option("accept_changed_data", "", "continue a run even if its recordings have changed"),
        Option("config", "NAME", "a recipe (digits, music, sc09, sounds, ...) or a YAML file"),
        Option("print_config", "", "print all settings as YAML, and do not train"),
        Option("seed_everything", "N", "seed of the initial weights", "0"),
    ],
    "data": [
        Option("data.labels", "NAME,NAME", "label attributes to use", "all"),
        Option("data.label_pattern", "REGEX", "its named groups are labels in file names"),
        Option("data.features", "NAME,NAME", "condition on log_mel, pitch, loudness, position"),
        Option("data.features_from", "FOLDER", "read the features from .npy files"),
        Option("data.sample_rate", "HZ", "rate to resample to", "that of most recordings"),
        Option("data.validation_fraction", "SHARE", "held out if the data has no split", "0.1"),
        Option("data.trim", "DB", "cut silence at both ends, DB below the peak"),
        Option("data.on_bad_file", "DO", "unreadable files: skip or fail", "skip"),
        Option("data.store", "FOLDER", "folder for decoded recordings", "the user's cache"),
        Option("data.crop", "SAMPLES", "length of a training excerpt", "from the data"),
        Option("data.batch_size", "N", "excerpts per step and device", "from the data"),
        Option("data.num_workers", "N", "processes that prepare batches", "by device"),
        Option("data.label_dropout", "P", "share of labels left unspecified", "0.1"),
    ],
    "network": [
        Option("model.network.layers", "N", "dilated causal convolutions", "by device"),
        Option("model.network.stacks", "N", "repetitions of the dilations", "by device"),
        Option("model.network.kernel_size", "N", "taps of each convolution", "2"),
        Option("model.network.residual_channels", "N", "width of the residuals", "by device"),
        Option("model.network.gate_channels", "N", "channels before the gate", "by device"),
        Option("model.network.skip_channels", "N", "width of the skip sum", "by device"),
        Option("model.network.quantization_channels", "Q", "mu-law codes", "256"),
        Option("model.network.gate", "KIND", "linear or tanh", "linear"),
    ],
    "training": [
        Option("time", "DURATION", "longest duration: 90 (seconds), 10m, 1h30m or 1:30:00"),
        Option("steps", "N", "number of steps", "from the data"),
        Option("epochs", "N", "number of passes over the recordings"),
        Option("model.learning_rate", "RATE", "highest learning rate", "by device"),
        Option("model.warmup_steps", "N", "steps until the highest rate is reached", "100"),
        Option("model.weight_decay", "W", "weight decay of matrices", "0.1"),
        Option("model.optimizer", "NAME", "muon or adamw", "muon"),
        Option("ema_decay", "D", "decay of averaged weights; 0 is none", "0.999"),
        Option("trainer.accelerator", "NAME", "cpu or cuda", "the GPU if there is one"),
        Option("trainer.devices", "N", "number of devices", "auto"),
        Option("trainer.precision", "NAME", "bf16-mixed, 32-true, ...", "by device"),
    ],
}
SHORT = {"time": "trainer.max_time", "steps": "trainer.max_steps", "epochs": "trainer.max_epochs"}
# Options whose values are names with commas between them.
_NAMES = ("--data.labels", "--data.features")
# Options without a dot that `GROUPS` does not list.
OTHERS = {"help", "help-all", "folder", "trainer", "model", "data"}
_SYNONYMS = {
    "max-time": "--time",
    "duration": "--time",
    "minutes": "--time",
    "max-steps": "--steps",
    "iterations": "--steps",
    "max-epochs": "--epochs",
    "lr": "--model.learning_rate",
    "output": "--run",
    "out": "--run",
    "seed": "--seed_everything",
    "device": "--trainer.accelerator",
    "workers": "--data.num_workers",
    "pattern": "--data.label_pattern",
    "recipe": "--config",
}


def help_text() -> str:
    """The help of `wavegen train`, on one screen."""
    lines = [
        "usage: wavegen train FOLDER [options], or wavegen train --resume RUN [options]",
        "",
        "Train a network on a folder of recordings. '--help-all' shows every option, including",
        "those of Lightning's Trainer.",
    ]
    for title, options in GROUPS.items():
        lines += ["", f"{title}:"]
        for option in options:
            head = f"--{option.name} {option.metavar}".rstrip()
            default = f" (default: {option.default})" if option.default else ""
            lines.append(f"  {head:<39} {option.text}{default}")
    return "\n".join(lines)


def plain(arguments: Sequence[str]) -> list[str]:
    """Translate the command line for LightningCLI: short forms become full names.

    Raises:
        ConfigError: an unknown option without a dot in its name.
    """
    words = []
    for name, value in _pairs(arguments):
        name = f"--{SHORT[name[2:]]}" if name[2:] in SHORT else name
        if value is None:
            words.append("--help" if name == "--help-all" else name)
            continue
        if name in _NAMES and value.lower() not in ("null", "none", "~"):
            value = f"[{','.join(names_of(value) or [])}]"
        words.append(f"{name}={value}" if name else value)
    return words


def _pairs(arguments: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Yield options with their values, None if there is none, and other words as ("", word)."""
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "-c":
            word = "--config"
        name, given, value = word.partition("=")
        if not word.startswith("--"):
            yield "", word
            continue
        _refuse_unknown(name)
        takes = name in _NAMES or name[2:] in (*SHORT, "trainer.max_time", "config")
        if not given and takes and rest:
            yield name, rest.pop(0)
        else:
            yield name, value if given else None


def _refuse_unknown(name: str) -> None:
    """Raise `ConfigError` for an unknown name without a dot; LightningCLI checks the others."""
    known = {f"--{option.name}" for options in GROUPS.values() for option in options}
    if "." in name or name in known or name.removeprefix("--") in OTHERS:
        return
    raise unknown_option(name, known, _SYNONYMS, "wavegen train")
