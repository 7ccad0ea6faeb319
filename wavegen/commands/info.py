"""`wavegen info`: what is in a folder of recordings or in a model."""

import argparse

from wavegen.commands.options import add_labels, add_pattern, names_of
from wavegen.errors import ConfigError

DESCRIPTION = "Show what is in a folder of recordings or in a model."


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("path", metavar="PATH", help="folder of recordings, run folder or model")
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
    if not Path(options.path).is_dir():
        raise ConfigError(f"{options.path}: no such folder")
    from wavegen.data.clips import find_clips
    from wavegen.data.settings import DataSettings
    from wavegen.data.summary import summary

    settings = DataSettings(names_of(options.labels), options.label_pattern)
    clips = find_clips(options.path, settings)
    print(summary(clips, clips.commonest_sample_rate()))
