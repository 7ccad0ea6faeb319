"""`wavegen info`: the contents of a folder of recordings, a model or an audio file."""

import argparse

from wavegen.commands.options import add_labels, add_pattern, names_of
from wavegen.utils.text import display

DESCRIPTION = "Show the contents of a folder of recordings, of a model or of an audio file."


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument(
        "path", metavar="PATH", help="folder of recordings, run folder, model or audio file"
    )
    add_labels(parser)
    add_pattern(parser)


def run(options: argparse.Namespace) -> None:
    """Print the contents of a folder, a model or an audio file."""
    from pathlib import Path

    if Path(options.path).is_file():
        print(_recording(options.path))
        return
    from wavegen.api.looking import info

    labels = names_of(options.labels)
    print(info(options.path, labels=labels, label_pattern=options.label_pattern))


def _recording(path: str) -> str:
    """Rate, channels and length of an audio file, in one line."""
    from wavegen.audio.reading import probe

    found = probe(path)
    seconds = found.frames / found.sample_rate
    channels = "1 channel" if found.channels == 1 else f"{found.channels} channels"
    return (
        f"{display(path)}: recording of {seconds:.2f} s ({found.frames:,} samples), "
        f"{found.sample_rate} Hz, {channels}"
    )
