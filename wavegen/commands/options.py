"""Options that several commands share, and the parser that shows every default in one way."""

import argparse
import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING, NoReturn

from wavegen.errors import ConfigError
from wavegen.utils.suggestions import unknown_option

if TYPE_CHECKING:
    from wavegen.distributions.sampling import Sampling

# Names that other programs use for our options.
SYNONYMS = {
    "length": "--seconds",
    "duration": "--seconds",
    "number": "--count",
    "samples": "--count",
    "output": "--out",
    "temp": "--temperature",
    "class": "--label",
    "random-state": "--seed",
    "pattern": "--data.label_pattern",
}


class _Formatter(argparse.HelpFormatter):
    """Adds the default, if there is one, to the help of an option."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        shown = action.default not in (None, False, [], argparse.SUPPRESS)
        return f"{text} (default: %(default)s)" if shown else text


class CommandParser(argparse.ArgumentParser):
    """The parser of one command; an error is one line that suggests the option that was meant.

    Args:
        command: name of the command.
        description: what the command does.
    """

    def __init__(self, command: str, description: str) -> None:
        super().__init__(
            prog=f"wavegen {command}",
            description=description,
            allow_abbrev=False,
            formatter_class=_Formatter,
        )

    def error(self, message: str) -> NoReturn:
        """Report an error as one line that refers to the help."""
        raise ConfigError(f"{message} (see '{self.prog} --help')")

    def parse(self, arguments: list[str]) -> argparse.Namespace:
        """Parse the command line; `ConfigError` for an unknown option."""
        # This comes first, since a misspelled option can make an argument seem missing.
        self._refuse_unknown(arguments)
        return self.parse_args(arguments)

    def _refuse_unknown(self, arguments: Iterable[str]) -> None:
        for argument in arguments:
            if argument == "--":
                return
            name = argument.partition("=")[0]
            if name.startswith("--") and name not in self._option_string_actions:
                known = self._option_string_actions
                guesses = {word: option for word, option in SYNONYMS.items() if option in known}
                raise unknown_option(name, known, guesses, self.prog)


def add_scoring(parser: argparse.ArgumentParser) -> None:
    """Add the options of all commands that score: the model, the recordings, the output format."""
    parser.add_argument("model", metavar="MODEL", help="run folder or model folder")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files and folders of audio")
    add_label(parser, "known class of the recordings; others are unspecified")
    parser.add_argument(
        "--split",
        choices=("train", "validation", "test"),
        help="use only the clips of this split of folders, which are split as in training",
    )
    add_pattern(parser)
    parser.add_argument(
        "--format",
        choices=("table", "csv", "jsonl"),
        default="table",
        help="format of the output",
    )
    add_device(parser)


def add_label(parser: argparse.ArgumentParser, help: str) -> None:
    """Add `--label`, which `wavegen.data.labels.parse` reads."""
    parser.add_argument(
        "--label", action="append", default=[], metavar="[ATTRIBUTE=]CLASS", help=help
    )


def add_pattern(parser: argparse.ArgumentParser) -> None:
    """Add the pattern that finds labels in file names."""
    parser.add_argument(
        "--data.label_pattern",
        dest="label_pattern",
        metavar="REGEX",
        help="regular expression whose named groups are labels in file names (default: for a "
        "model, the one that it was trained with)",
    )


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Add the choice of label attributes."""
    parser.add_argument(
        "--data.labels",
        dest="labels",
        metavar="NAME,NAME",
        help="label attributes to use: columns of the metadata or groups of the pattern "
        "(default: all)",
    )


def names_of(listed: str | None) -> tuple[str, ...] | None:
    """Split the names in `digit,speaker`, or in a YAML list such as `[digit, speaker]`."""
    if listed is None:
        return None
    names = (name.strip() for name in listed.strip("[]").split(","))
    return tuple(name for name in names if name)


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add the folder that keeps decoded clips."""
    parser.add_argument(
        "--data.store",
        dest="store",
        metavar="FOLDER",
        help="folder for decoded clips (default: in the user's cache)",
    )


def add_combinations(parser: argparse.ArgumentParser) -> None:
    """Add the limit on combinations of classes."""
    parser.add_argument(
        "--combinations",
        type=int,
        default=100,
        metavar="N",
        help="score classes of several attributes in all combinations if there are at most N, "
        "else each attribute with the others unspecified, which is faster and less accurate",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add the device that torch uses."""
    parser.add_argument(
        "--device", help="cpu, cuda, cuda:1, ... (default: the GPU if there is one)"
    )


def sampling_of(options: argparse.Namespace) -> "Sampling":
    """The sampling that the options of `add_sampling` describe."""
    from wavegen.distributions.sampling import Sampling

    return Sampling(options.temperature, options.top_k, options.top_p, guidance=options.guidance)


def add_files(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that write WAV files."""
    parser.add_argument(
        "--out", default="out", metavar="PATH", help="folder for the files; or one .wav file"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace files that have other settings (otherwise the new file gets a number)",
    )
    parser.add_argument(
        "--plot", action="store_true", help="draw waveform and spectrogram, a PNG for each file"
    )


def _seed(text: str) -> int:
    """A seed; `random` draws one, which then stands in the names and recipes of the files."""
    return secrets.randbelow(10**6) if text == "random" else int(text)


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """Add the options of sampling, and the choice of an engine."""
    parser.add_argument(
        "--seed", type=_seed, default=0, help="seed of the random numbers, or 'random'"
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        help="below 1, likely codes become likelier; 0 always takes the likeliest code",
    )
    parser.add_argument("--top-k", type=int, metavar="K", help="draw from the K likeliest codes")
    parser.add_argument(
        "--top-p",
        type=float,
        metavar="P",
        help="draw from the fewest likeliest codes that together have probability P",
    )
    parser.add_argument(
        "--guidance",
        type=float,
        default=1.0,
        metavar="W",
        help="above 1, the labels have more influence than in training",
    )
    add_device(parser)
    parser.add_argument(
        "--engine",
        default="auto",
        metavar="NAME",
        help="numba (compiled, CPU), graph or triton (GPU), torch (anywhere), or auto, the "
        "fastest here",
    )
    parser.add_argument(
        "--precision",
        default="float32",
        metavar="NAME",
        help="of the weights: float32; bfloat16, faster on a GPU and for one stream of a large "
        "network on a CPU; or int8, on a CPU",
    )
