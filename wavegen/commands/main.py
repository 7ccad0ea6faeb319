"""The command line. Each command imports what it needs when it is run."""

import errno
import io
import os
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from textwrap import shorten

from wavegen import __version__
from wavegen.commands import train_options
from wavegen.commands.options import CommandParser
from wavegen.commands.remarks import remarks_as_lines
from wavegen.errors import ConfigError, Stopped, WavegenError
from wavegen.training.signals import stopping_on_signals
from wavegen.utils import distributed
from wavegen.utils.text import display

# Each is a module of this folder, with `DESCRIPTION`, `add_options` and `run`. The options of
# `train` are in `train_options`, since most of them are those of Lightning's Trainer.
COMMANDS = {
    "train": "train on a folder of recordings",
    "generate": "generate WAV files from a trained model",
    "resynthesize": "generate recordings again from their features",
    "score": "exact bits per sample of recordings",
    "classify": "most probable classes of recordings",
    "detect": "recordings that are not normal",
    "evaluate": "a report on a model: how well it predicts and generates",
    "info": "show the contents of a folder of recordings or of a model",
    "prepare": "decode a folder of recordings ahead of training",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    It is 0, or as the command says, or 2 after an error, which is one line on standard error, or
    128 plus the number of the signal that ended the command.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with stopping_on_signals(), remarks_as_lines():
            return _run(arguments)
    except WavegenError as error:
        print(f"wavegen: {_one_line(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The program that reads our output has ended, such as `head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if isinstance(error, io.UnsupportedOperation) or error.errno == errno.EBADF:
            raise  # a bug, not a mistake of the user
        place = f"{error.filename}: " if error.filename else ""
        line = _one_line(f"{place}{error.strerror or error}")
        print(f"wavegen: {line}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or _NO_MEMORY.search(str(error))):
            raise
        reason = shorten(str(error), 200, placeholder=" ...")
        print(
            f"wavegen: out of memory{f' ({reason})' if reason else ''}; free some, or ask for less"
            " at once: fewer or shorter recordings, a smaller batch or network",
            file=sys.stderr,
        )
        return 2
    except Stopped as stopped:
        print(f"wavegen: stopped{stopped}", file=sys.stderr)
        return 128 + stopped.number
    except KeyboardInterrupt:
        print("wavegen: interrupted", file=sys.stderr)
        return 130


def _run(arguments: list[str]) -> int:
    # Libraries read these variables when they are imported, so they are set before.
    distributed.check()
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help"):
        print(_overview())
        return 0
    if name == "--version":
        print(f"wavegen {__version__}")
        return 0
    if name not in COMMANDS:
        meant = get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {meant[0]}?" if meant else f"choose one of {', '.join(COMMANDS)}"
        raise ConfigError(f"no command {name!r}: {hint} (see 'wavegen --help')")
    if name == "train":
        return _train(rest)
    command = import_module(f"wavegen.commands.{name}")
    parser = CommandParser(name, command.DESCRIPTION)
    command.add_options(parser)
    return command.run(parser.parse(rest)) or 0


def _train(arguments: list[str]) -> int:
    """LightningCLI has a parser of its own, with every option of the Trainer."""
    if {"-h", "--help"} & set(arguments):
        print(train_options.help_text())
        return 0
    options = train_options.plain(arguments)
    from wavegen.training.train import train

    train(options)
    return 0


def _overview() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:<{width}}{summary}" for name, summary in COMMANDS.items()]
    return "\n".join(
        [
            "Train autoregressive models of audio, generate new recordings, score any recording.",
            "",
            "usage: wavegen COMMAND ...",
            "",
            *lines,
            "",
            "'wavegen COMMAND --help' shows the options of a command, 'wavegen --version' the",
            "version. First sound: wavegen train FOLDER, then wavegen generate runs/FOLDER.",
        ]
    )


def _one_line(text: str) -> str:
    return display(" ".join(text.split()))


# torch has an error class only for the memory of a GPU. Its allocator on the CPU, the driver,
# cuBLAS and Triton report it only in the text of the error.
_NO_MEMORY = re.compile(
    "out of memory|(can't|cannot|could not) allocate memory|not enough memory|ALLOC_FAILED"
    "|bad_alloc|can't start new thread",
    re.IGNORECASE,
)
