"""The command line. Each command imports what it needs when it is run."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from wavegen import __version__
from wavegen.errors import ConfigError, Stopped, WavegenError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, or 2 after one line on standard error,
    or 128 and the number of the signal that ended it."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if arguments[:1] == ["train"]:
            # LightningCLI has a parser of its own, with every option of the Trainer.
            from wavegen.train_command import train

            train(arguments[1:])
            return 0
        parsed = _parser().parse_args(arguments)
        return parsed.command(parsed) or 0
    except WavegenError as error:
        print(f"wavegen: {_one_line(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of our output has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"wavegen: {place}{_one_line(error.strerror or str(error))}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        print(f"wavegen: stopped{stopped}", file=sys.stderr)
        return 128 + stopped.number
    except KeyboardInterrupt:
        print("wavegen: interrupted", file=sys.stderr)
        return 130
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Report as every other error is: one line, and where to read more."""
        raise ConfigError(f"{message} (see '{self.prog} --help')")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="wavegen",
        description="Train autoregressive models of audio and generate new recordings.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"wavegen {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    # Only listed here; `main` hands its options to LightningCLI.
    commands.add_parser("train", help="train on a folder of recordings", add_help=False)

    prepare = commands.add_parser(
        "prepare",
        help="decode a folder of recordings ahead of training",
        allow_abbrev=False,
        description="Decode and resample recordings by all cores, for training to read. Without "
        "--shards they are kept where 'wavegen train' with the same settings finds them.",
    )
    prepare.add_argument("folder", metavar="FOLDER", help="recordings, as for training")
    prepare.add_argument(
        "--shards",
        metavar="OUT",
        help="write shards for 'wavegen train OUT' there: a folder, or s3://BUCKET/NAME",
    )
    prepare.add_argument("--sample-rate", type=int, metavar="HZ", help="(that of most recordings)")
    prepare.add_argument("--labels", metavar="NAME,NAME", help="columns of the metadata to use")
    prepare.add_argument("--label-pattern", metavar="REGEX", help="labels in the file name")
    prepare.add_argument(
        "--validation-fraction", type=float, default=0.1, metavar="SHARE", help="(0.1)"
    )
    prepare.add_argument("--trim", type=float, metavar="DB", help="cut silence at both ends")
    prepare.add_argument("--on-bad-file", default="skip", metavar="DO", help="skip or fail (skip)")
    prepare.add_argument("--store", metavar="FOLDER", help="for what is kept (the user's cache)")
    prepare.set_defaults(command=_prepare)

    generate = commands.add_parser(
        "generate",
        help="generate WAV files from a trained model",
        allow_abbrev=False,
        description="Generate WAV files, named LABEL_SEED_INDEX.wav, each with a JSON beside it "
        "that holds all it takes to make the same file again.",
    )
    generate.add_argument("model", nargs="?", metavar="MODEL", help="run folder or model folder")
    generate.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="[ATTRIBUTE=]CLASS",
        help="what to generate; once for each attribute; left out means unspecified",
    )
    generate.add_argument(
        "--each", metavar="ATTRIBUTE", help="--count files for every class of this attribute"
    )
    generate.add_argument("--count", type=int, default=1, help="files of each kind (1)")
    generate.add_argument("--seconds", type=float, default=2.0, help="length of each (2)")
    generate.add_argument("--seed", type=int, default=0, help="of the noise (0)")
    generate.add_argument(
        "--temperature", type=float, default=1.0, help="below 1 is tamer, 0 takes the likeliest (1)"
    )
    generate.add_argument("--top-k", type=int, metavar="K", help="only the K likeliest codes")
    generate.add_argument(
        "--top-p", type=float, metavar="P", help="only the likeliest codes that reach P together"
    )
    generate.add_argument(
        "--guidance", type=float, default=1.0, metavar="W", help="above 1 insists on the label (1)"
    )
    generate.add_argument(
        "--prompt", metavar="FILE", help="recording to go on from; not repeated in the output"
    )
    generate.add_argument("--out", default="out", metavar="FOLDER", help="for the files (out)")
    generate.add_argument("--device", help="cpu, cuda, cuda:1, ... (the GPU if there is one)")
    generate.add_argument(
        "--engine",
        default="auto",
        metavar="NAME",
        help="numba (compiled, CPU), graph or triton (GPU), torch (anywhere), or auto, the "
        "fastest here (auto)",
    )
    generate.add_argument(
        "--precision",
        default="float32",
        metavar="NAME",
        help="of the weights: float32, or bfloat16, faster on a GPU and for one stream of a large "
        "network on a CPU, or int8, on a CPU (float32)",
    )
    generate.add_argument(
        "--like",
        metavar="FILE.json",
        help="make the WAV that this JSON lies beside again; MODEL only if it has moved",
    )
    generate.set_defaults(command=_generate)

    score = commands.add_parser(
        "score",
        help="exact bits per sample of recordings",
        allow_abbrev=False,
        description="Score recordings exactly: bits of every file, and of all together.",
    )
    _add_scoring(score)
    score.add_argument(
        "--per-sample", metavar="FOLDER", help="write the bits of every sample, an npz a file"
    )
    score.add_argument(
        "--plot", metavar="FOLDER", help="draw waveform, surprisal and spectrogram, a PNG a file"
    )
    score.set_defaults(command=_score)

    classify = commands.add_parser(
        "classify",
        help="classes of recordings by their likelihood",
        allow_abbrev=False,
        description="The posterior over the classes of each attribute, by Bayes' rule.",
    )
    _add_scoring(classify)
    classify.add_argument(
        "--prior",
        choices=("uniform", "training"),
        default="uniform",
        help="of the classes: all alike, or as often as in training (uniform)",
    )
    classify.add_argument(
        "--combinations",
        type=int,
        default=100,
        metavar="N",
        help="classes of several attributes are scored in all combinations if these are at most "
        "N, else each with the others unspecified: faster, and less often right (100)",
    )
    classify.add_argument(
        "--check", action="store_true", help="compare with the labels that the folder gives"
    )
    classify.set_defaults(command=_classify)

    detect = commands.add_parser(
        "detect",
        help="recordings that do not belong",
        allow_abbrev=False,
        description="Judge recordings by their likelihood: normal, or not. The exit status is 1 "
        "if any is not. Calibrate first, on normal recordings that were held out in training.",
    )
    _add_scoring(detect)
    detect.add_argument(
        "--calibrate", action="store_true", help="learn from PATHs what is normal, beside MODEL"
    )
    detect.add_argument(
        "--background",
        metavar="MODEL",
        help="with --calibrate: compare with this model, not with the histogram of codes",
    )
    detect.add_argument(
        "--without-classes",
        action="store_true",
        help="with --calibrate: do not ask which class explains a recording best, which takes as "
        "many times longer as there are classes",
    )
    detect.add_argument(
        "--false-alarms",
        type=float,
        default=0.01,
        metavar="RATE",
        help="share of normal recordings that may be taken for others (0.01)",
    )
    detect.set_defaults(command=_detect)

    info = commands.add_parser(
        "info", help="show what is in a folder of recordings or in a model", allow_abbrev=False
    )
    info.add_argument("path", metavar="PATH", help="folder of recordings, run folder or model")
    info.add_argument("--data.labels", dest="labels", metavar="[COLUMN,...]")
    info.add_argument("--data.label_pattern", dest="label_pattern", metavar="REGEX")
    info.set_defaults(command=_info)
    return parser


def _add_scoring(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", help="run folder or model folder")
    command.add_argument("paths", nargs="+", metavar="PATH", help="files and folders of audio")
    command.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="[ATTRIBUTE=]CLASS",
        help="what is known of the recordings; left out means unspecified",
    )
    command.add_argument(
        "--split",
        choices=("train", "validation", "test"),
        help="of folders, only the clips of this split, as training splits them",
    )
    command.add_argument("--data.label_pattern", dest="label_pattern", metavar="REGEX")
    command.add_argument(
        "--format",
        choices=("table", "csv", "jsonl"),
        default="table",
        help="of what is printed (table)",
    )
    command.add_argument("--device", help="cpu, cuda, cuda:1, ... (the GPU if there is one)")


def _score(options: argparse.Namespace) -> None:
    from wavegen.score_command import score_command

    score_command(options)


def _classify(options: argparse.Namespace) -> None:
    from wavegen.score_command import classify_command

    classify_command(options)


def _detect(options: argparse.Namespace) -> int:
    from wavegen.detect_command import detect_command

    return detect_command(options)


def _generate(options: argparse.Namespace) -> None:
    from wavegen import generate, labels
    from wavegen.checkpoint import load_config
    from wavegen.recordings import generate_files, repeat_file
    from wavegen.sampling import Sampling

    if options.like is not None:
        print(repeat_file(options.like, options.out, options.model))
        return
    if options.model is None:
        raise ConfigError("name a MODEL: a run folder or model folder")
    if options.count < 1:
        raise ConfigError(f"--count is {options.count}: it must be 1 or more")
    attributes = load_config(options.model).labels
    asked = labels.parse(options.label, attributes)
    if options.each is None:
        kinds = [asked]
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
        sampling=Sampling(
            options.temperature, options.top_k, options.top_p, guidance=options.guidance
        ),
        prompt=options.prompt,
        device=options.device,
        engine=options.engine,
        precision=options.precision,
    )
    print(*paths, sep="\n")


def _prepare(options: argparse.Namespace) -> None:
    import time

    from wavegen.clips import find_clips, summary
    from wavegen.decoding import seconds
    from wavegen.prepare import write_shards
    from wavegen.store import open_store

    started = time.perf_counter()
    clips = find_clips(
        options.folder,
        labels=_names(options.labels),
        label_pattern=options.label_pattern,
        validation_fraction=options.validation_fraction,
        on_bad_file=options.on_bad_file,
    )
    rate = options.sample_rate or clips.commonest_sample_rate()
    settings = {"trim": options.trim, "on_bad_file": options.on_bad_file}
    if options.shards is None:
        store = open_store(clips.clips, rate, folder=options.store, **settings)
        clips, place = clips.without(store.skipped), store.folder
    else:
        clips = write_shards(clips, rate, options.shards, cache=options.store, **settings)
        place = options.shards
    took = time.perf_counter() - started
    print(summary(clips, rate))
    print(f"prepared: {place}, in {took:.0f} s ({seconds(clips.clips) / took:,.0f} x real time)")


def _info(options: argparse.Namespace) -> None:
    from pathlib import Path

    from wavegen.checkpoint import best_figures, is_model, load_config

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
    from wavegen.clips import find_clips, summary

    labels = _names(options.labels)
    clips = find_clips(options.path, labels=labels, label_pattern=options.label_pattern)
    print(summary(clips, clips.commonest_sample_rate()))


def _names(listed: str | None) -> list[str] | None:
    if listed is None:
        return None
    # As `wavegen train` takes it: [digit,speaker]
    return [name.strip() for name in listed.strip("[]").split(",")]


def _one_line(text: str) -> str:
    return " ".join(text.split())
