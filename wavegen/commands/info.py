"""`wavegen info`: what is in a folder of recordings or in a model."""

import argparse

from wavegen.commands.options import add_labels, add_pattern, names_of
from wavegen.errors import ConfigError
from wavegen.utils.text import display

DESCRIPTION = "Show what is in a folder of recordings, in a model or in an audio file."


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument(
        "path", metavar="PATH", help="folder of recordings, run folder, model or audio file"
    )
    add_labels(parser)
    add_pattern(parser)


def run(options: argparse.Namespace) -> None:
    """Print what is in a folder or a model."""
    from pathlib import Path

    from wavegen.models.serialization import best_figures, is_model, load_config

    if is_model(options.path):
        print(load_config(options.path).describe())
        if figures := best_figures(options.path):
            print(
                f"held out  {figures['val_bits']:.3f} bits per sample at step {figures['step']} "
                f"(uniform {figures['uniform_bits']:.1f}, order-0 {figures['order0_bits']:.2f})"
            )
        return
    if Path(options.path).is_file():
        print(_recording(options.path))
        return
    if not Path(options.path).is_dir():
        raise ConfigError(f"{display(options.path)}: no such file or folder")
    from wavegen.data.clips import find_clips
    from wavegen.data.settings import DataSettings
    from wavegen.data.summary import summary

    settings = DataSettings(names_of(options.labels), options.label_pattern)
    clips = find_clips(options.path, settings)
    print(summary(clips, clips.commonest_sample_rate()))


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
