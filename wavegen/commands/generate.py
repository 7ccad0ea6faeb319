"""`wavegen generate`: WAV files from a trained model."""

import argparse

from wavegen.commands.options import add_files, add_label, add_sampling, sampling_of
from wavegen.errors import ConfigError

DESCRIPTION = (
    "Generate WAV files, named LABEL_SEED_INDEX.wav. A JSON file of the same name holds all "
    "settings that are needed to generate the same file again."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="run folder or model folder")
    add_label(parser, "class to generate, once per attribute; others are unspecified")
    parser.add_argument(
        "--each",
        metavar="ATTRIBUTE",
        help="generate --count files for every class of this attribute",
    )
    parser.add_argument("--count", type=int, default=1, help="number of files per class")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each file")
    parser.add_argument(
        "--prompt", metavar="FILE", help="recording to continue; it is not repeated in the output"
    )
    parser.add_argument(
        "--join", action="store_true", help="put the prompt before its continuation in each file"
    )
    add_files(parser)
    add_sampling(parser)
    parser.add_argument(
        "--like",
        metavar="FILE.json",
        help="regenerate the WAV described by FILE.json; name MODEL only if it has moved",
    )


def run(options: argparse.Namespace) -> None:
    """Generate files, or regenerate one from its recipe, and print their paths."""
    from wavegen.commands.output import print_files
    from wavegen.data import labels
    from wavegen.generation import generate
    from wavegen.generation.repeating import repeat_file
    from wavegen.generation.wav_files import generate_files
    from wavegen.models.serialization import load_config

    if options.like is not None:
        _refuse_settings(options)
        path = repeat_file(options.like, options.out, options.model, overwrite=options.overwrite)
        print_files([path], options.plot)
        return
    if options.model is None:
        raise ConfigError("name a MODEL: a run folder or model folder")
    if options.count < 1:
        raise ConfigError(f"--count is {options.count}: it must be 1 or more")
    attributes = load_config(options.model).labels
    asked = labels.parse(options.label, attributes)
    if options.each is None:
        kinds = [asked]
    elif options.each in asked:
        raise ConfigError(f"--each {options.each} asks for every class: leave its --label out")
    elif options.each in attributes:
        kinds = [{**asked, options.each: name} for name in attributes[options.each]]
    else:
        known = ", ".join(attributes) or "none, this model has no labels"
        raise ConfigError(f"--each {options.each}: the attributes are {known}")
    paths = generate_files(
        options.model,
        [generate.Stream(kind, index) for kind in kinds for index in range(options.count)],
        options.seconds,
        options.out,
        seed=options.seed,
        sampling=sampling_of(options),
        prompt=options.prompt,
        device=options.device,
        engine=options.engine,
        precision=options.precision,
        join=options.join,
        overwrite=options.overwrite,
    )
    print_files(paths, options.plot)


def _refuse_settings(options: argparse.Namespace) -> None:
    """Raise `ConfigError` for an option that would change the file which --like regenerates."""
    parser = argparse.ArgumentParser()
    add_options(parser)
    defaults = vars(parser.parse_args([]))
    for name in defaults.keys() - {"model", "out", "like", "overwrite", "plot"}:
        if getattr(options, name) != defaults[name]:
            option = name.replace("_", "-")
            raise ConfigError(f"--like uses the settings of its file: leave --{option} out")
