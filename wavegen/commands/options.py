"""Options that several commands share, and the parser that shows every default in one way."""

import argparse
import secrets
from collections.abc import Iterable
from typing import NoReturn

from wavegen.errors import ConfigError
from wavegen.utils.suggestions import unknown_option

# What users of other programs guess, for commands that have the option.
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
    """Ends the help of an option by its default, where it has one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        shown = action.default not in (None, False, [], argparse.SUPPRESS)
        return f"{text} (default: %(default)s)" if shown else text


class CommandParser(argparse.ArgumentParser):
    """Of one command: its mistakes are one line that names the option that was meant.

    Args:
        command: its name.
        description: what it does.
    """

    def __init__(self, command: str, description: str) -> None:
        super().__init__(
            prog=f"wavegen {command}",
            description=description,
            allow_abbrev=False,
            formatter_class=_Formatter,
        )

    def error(self, message: str) -> NoReturn:
        """Report as every other error is: one line, and where to read more."""
        raise ConfigError(f"{message} (see '{self.prog} --help')")

    def parse(self, arguments: list[str]) -> argparse.Namespace:
        """Parse the command line; `ConfigError` for what it does not know."""
        # First: a missing argument may follow from a misspelled option.
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
    """What is scored, by which model, and how it is printed."""
    parser.add_argument("model", metavar="MODEL", help="run folder or model folder")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="files and folders of audio")
    add_label(parser, "what is known of the recordings; left out means unspecified")
    parser.add_argument(
        "--split",
        choices=("train", "validation", "test"),
        help="of folders, only the clips of this split, as training split them",
    )
    add_pattern(parser)
    parser.add_argument(
        "--format",
        choices=("table", "csv", "jsonl"),
        default="table",
        help="format of what is printed",
    )
    add_device(parser)


def add_label(parser: argparse.ArgumentParser, help: str) -> None:
    """Classes of label attributes, as `wavegen.data.labels.parse` reads them."""
    parser.add_argument(
        "--label", action="append", default=[], metavar="[ATTRIBUTE=]CLASS", help=help
    )


def add_pattern(parser: argparse.ArgumentParser) -> None:
    """How file names give labels."""
    parser.add_argument(
        "--data.label_pattern",
        dest="label_pattern",
        metavar="REGEX",
        help="regular expression whose named groups are labels in file names; what a model was "
        "trained with is known",
    )


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Which label attributes are used."""
    parser.add_argument(
        "--data.labels",
        dest="labels",
        metavar="NAME,NAME",
        help="label attributes to use: columns of the metadata or groups of the pattern "
        "(default: all)",
    )


def names_of(listed: str | None) -> tuple[str, ...] | None:
    """The names in `digit,speaker`, also as a list of YAML, `[digit, speaker]`."""
    if listed is None:
        return None
    names = (name.strip() for name in listed.strip("[]").split(","))
    return tuple(name for name in names if name)


def add_store(parser: argparse.ArgumentParser) -> None:
    """Where decoded clips are kept."""
    parser.add_argument(
        "--data.store",
        dest="store",
        metavar="FOLDER",
        help="folder for decoded clips (default: in the user's cache)",
    )


def add_combinations(parser: argparse.ArgumentParser) -> None:
    """How classes of several attributes are scored."""
    parser.add_argument(
        "--combinations",
        type=int,
        default=100,
        metavar="N",
        help="classes of several attributes are scored in all combinations if there are at most "
        "N, else each with the others unspecified, which is faster and less often right",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Where torch computes."""
    parser.add_argument(
        "--device", help="cpu, cuda, cuda:1, ... (default: the GPU if there is one)"
    )


def _seed(text: str) -> int:
    """A seed; `random` picks one, which the names of the files and their recipes say."""
    return secrets.randbelow(10**6) if text == "random" else int(text)


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """How codes are drawn, and by which engine."""
    parser.add_argument(
        "--seed", type=_seed, default=0, help="seed of the random numbers, or 'random'"
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        help="below 1 makes likely codes likelier; 0 always takes the likeliest code",
    )
    parser.add_argument("--top-k", type=int, metavar="K", help="draw from the K likeliest codes")
    parser.add_argument(
        "--top-p",
        type=float,
        metavar="P",
        help="draw from the fewest codes whose probabilities reach P together",
    )
    parser.add_argument(
        "--guidance", type=float, default=1.0, metavar="W", help="above 1 follows the label more"
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
