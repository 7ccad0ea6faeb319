"""`wavegen resynthesize`: recordings generated again from their features."""

import argparse
import sys

from wavegen.commands.options import add_files, add_label, add_sampling, sampling_of
from wavegen.errors import WavegenError
from wavegen.utils.text import display

DESCRIPTION = (
    "Generate recordings again from their features, by a model that was trained with "
    "--data.features. Each result is a WAV with the name of its input, and a JSON file from which "
    "'wavegen generate --like' regenerates it. The exit status is 1 if an input could not be used."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("model", metavar="MODEL", help="run folder or model folder")
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="INPUT",
        help="recordings, or .npy files of features (frames, size) or (size, frames), or folders",
    )
    add_label(parser, "class to generate, once per attribute; others are unspecified")
    parser.add_argument(
        "--transpose",
        type=float,
        metavar="SEMITONES",
        help="move the pitch by so much, such as 12 or 0; by default it is moved by whole octaves "
        "into the range of the training data (models with the feature pitch)",
    )
    add_files(parser)
    add_sampling(parser)


def run(options: argparse.Namespace) -> int:
    """Generate the files, and print their paths.

    Returns:
        1 if an input could not be used, else 0.
    """
    from tqdm import tqdm

    from wavegen.commands.output import print_files
    from wavegen.data import labels
    from wavegen.generation.resynthesis import resynthesize_files
    from wavegen.models.serialization import load_config

    errors: list[WavegenError] = []

    def on_error(error: WavegenError) -> None:
        errors.append(error)
        # Above the progress.
        tqdm.write(f"wavegen: {display(str(error))}", file=sys.stderr)

    paths = resynthesize_files(
        options.model,
        options.paths,
        options.out,
        labels.parse(options.label, load_config(options.model).labels),
        transpose=options.transpose,
        seed=options.seed,
        sampling=sampling_of(options),
        device=options.device,
        engine=options.engine,
        precision=options.precision,
        overwrite=options.overwrite,
        on_error=on_error,
    )
    print_files(paths, options.plot)
    return 1 if errors else 0
