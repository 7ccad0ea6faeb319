"""The options of every command: argparse alone, so that help is there at once."""

import argparse
from typing import NoReturn

from wavegen import __version__
from wavegen.errors import ConfigError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Report as every other error is: one line, and where to read more."""
        raise ConfigError(f"{message} (see '{self.prog} --help')")


def parser() -> argparse.ArgumentParser:
    """Of every command but `train`, which has one of its own; `command` names the one given."""
    top = _Parser(
        prog="wavegen",
        description="Train autoregressive models of audio and generate new recordings.",
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"wavegen {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
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
    prepare.add_argument(
        "--data.sample_rate",
        dest="sample_rate",
        type=int,
        metavar="HZ",
        help="(that of most recordings)",
    )
    prepare.add_argument(
        "--data.labels",
        dest="labels",
        metavar="NAME,NAME",
        help="columns of the metadata to use",
    )
    prepare.add_argument(
        "--data.label_pattern",
        dest="label_pattern",
        metavar="REGEX",
        help="labels in the file name",
    )
    prepare.add_argument(
        "--data.validation_fraction",
        dest="validation_fraction",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="(0.1)",
    )
    prepare.add_argument(
        "--data.trim",
        dest="trim",
        type=float,
        metavar="DB",
        help="cut silence at both ends",
    )
    prepare.add_argument(
        "--data.on_bad_file",
        dest="on_bad_file",
        default="skip",
        metavar="DO",
        help="skip or fail (skip)",
    )
    prepare.add_argument(
        "--data.store",
        dest="store",
        metavar="FOLDER",
        help="for what is kept (the user's cache)",
    )
    prepare.set_defaults(command="prepare")

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
    generate.add_argument(
        "--prompt", metavar="FILE", help="recording to go on from; not repeated in the output"
    )
    generate.add_argument("--out", default="out", metavar="FOLDER", help="for the files (out)")
    _add_sampling(generate)
    generate.add_argument(
        "--like",
        metavar="FILE.json",
        help="make the WAV that this JSON lies beside again; MODEL only if it has moved",
    )
    generate.set_defaults(command="generate")

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
    score.set_defaults(command="score")

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
    classify.set_defaults(command="classify")

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
    detect.set_defaults(command="detect")

    evaluate = commands.add_parser(
        "evaluate",
        help="a report on a model: how well it predicts, how its recordings compare",
        allow_abbrev=False,
        description="Measure a model on held-out recordings, and the recordings it generates "
        "beside them: report.json and report.html, a page that needs nothing else.",
    )
    evaluate.add_argument("model", metavar="MODEL", help="run folder or model folder")
    evaluate.add_argument(
        "data", metavar="DATA", help="folder of recordings, split as training split it"
    )
    evaluate.add_argument("--out", default="report", metavar="FOLDER", help="(report)")
    evaluate.add_argument(
        "--count", type=int, default=500, help="held-out clips that are looked at at most (500)"
    )
    evaluate.add_argument(
        "--seconds",
        type=float,
        default=5.0,
        help="of a clip that are generated and compared at most (5)",
    )
    evaluate.add_argument(
        "--combinations",
        type=int,
        default=100,
        metavar="K",
        help="as for classify; 1 is faster, one attribute at a time (100)",
    )
    evaluate.add_argument(
        "--classified",
        type=int,
        metavar="N",
        help="held-out clips that are classified by likelihood at most; it takes as many times "
        "longer as there are classes (as many as come to 20,000 seconds times labels)",
    )
    _add_pattern(evaluate)
    evaluate.add_argument(
        "--data.store",
        dest="store",
        metavar="FOLDER",
        help="of decoded clips (the user's cache)",
    )
    _add_sampling(evaluate)
    evaluate.set_defaults(command="evaluate")

    info = commands.add_parser(
        "info", help="show what is in a folder of recordings or in a model", allow_abbrev=False
    )
    info.add_argument("path", metavar="PATH", help="folder of recordings, run folder or model")
    info.add_argument("--data.labels", dest="labels", metavar="[COLUMN,...]")
    _add_pattern(info)
    info.set_defaults(command="info")
    return top


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
        help="of folders, only the clips of this split, as training split them",
    )
    _add_pattern(command)
    command.add_argument(
        "--format",
        choices=("table", "csv", "jsonl"),
        default="table",
        help="of what is printed (table)",
    )
    command.add_argument("--device", help="cpu, cuda, cuda:1, ... (the GPU if there is one)")


def _add_pattern(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data.label_pattern",
        dest="label_pattern",
        metavar="REGEX",
        help="named groups in file names are labels; of a model's own training it is known",
    )


def _add_sampling(command: argparse.ArgumentParser) -> None:
    command.add_argument("--seed", type=int, default=0, help="of the noise (0)")
    command.add_argument(
        "--temperature", type=float, default=1.0, help="below 1 is tamer, 0 takes the likeliest (1)"
    )
    command.add_argument("--top-k", type=int, metavar="K", help="only the K likeliest codes")
    command.add_argument(
        "--top-p", type=float, metavar="P", help="only the likeliest codes that reach P together"
    )
    command.add_argument(
        "--guidance", type=float, default=1.0, metavar="W", help="above 1 insists on the label (1)"
    )
    command.add_argument("--device", help="cpu, cuda, cuda:1, ... (the GPU if there is one)")
    command.add_argument(
        "--engine",
        default="auto",
        metavar="NAME",
        help="numba (compiled, CPU), graph or triton (GPU), torch (anywhere), or auto, the "
        "fastest here (auto)",
    )
    command.add_argument(
        "--precision",
        default="float32",
        metavar="NAME",
        help="of the weights: float32, or bfloat16, faster on a GPU and for one stream of a large "
        "network on a CPU, or int8, on a CPU (float32)",
    )
