"""The command line. Each command imports what it needs when it is run."""

import argparse
import errno
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from textwrap import shorten
from typing import Any

from wavegen.commands.options import parser
from wavegen.errors import ConfigError, Stopped, WavegenError
from wavegen.training.signals import stopping_on_signals
from wavegen.utils import distributed
from wavegen.utils.text import display


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, or 2 after one line on standard error,
    or 128 and the number of the signal that ended it."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with stopping_on_signals():
            return _run(arguments)
    except WavegenError as error:
        print(f"wavegen: {_one_line(str(error))}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of our output has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if isinstance(error, io.UnsupportedOperation) or error.errno == errno.EBADF:
            raise  # a bug, nothing that a user did
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
    # Before a library reads these variables when it is imported.
    distributed.check()
    if arguments[:1] == ["train"]:
        # LightningCLI has a parser of its own, with every option of the Trainer.
        from wavegen.commands.train import train

        train(arguments[1:])
        return 0
    parsed = parser().parse_args(arguments)
    return _COMMANDS[parsed.command](parsed) or 0


def _score(options: argparse.Namespace) -> None:
    from wavegen.commands.score import score_command

    score_command(options)


def _classify(options: argparse.Namespace) -> None:
    from wavegen.commands.score import classify_command

    classify_command(options)


def _detect(options: argparse.Namespace) -> int:
    from wavegen.commands.detect import detect_command

    return detect_command(options)


def _evaluate(options: argparse.Namespace) -> None:
    from wavegen.commands.evaluate import evaluate_command

    evaluate_command(options)


def _generate(options: argparse.Namespace) -> None:
    from wavegen.data import labels
    from wavegen.distributions.sampling import Sampling
    from wavegen.generation import generate
    from wavegen.generation.wav_files import generate_files, repeat_file
    from wavegen.models.serialization import load_config

    if options.like is not None:
        plain = vars(parser().parse_args(["generate", "--like", options.like]))
        for name in plain.keys() - {"model", "out"}:
            if getattr(options, name) != plain[name]:
                option = name.replace("_", "-")
                raise ConfigError(f"--like makes a file as it was made: leave --{option} out")
        print(display(repeat_file(options.like, options.out, options.model)))
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
        sampling=Sampling(
            options.temperature, options.top_k, options.top_p, guidance=options.guidance
        ),
        prompt=options.prompt,
        device=options.device,
        engine=options.engine,
        precision=options.precision,
    )
    print(*map(display, paths), sep="\n")


def _prepare(options: argparse.Namespace) -> None:
    import time

    from wavegen.data.clips import find_clips, summary
    from wavegen.data.decoding import seconds
    from wavegen.data.shard_writer import write_shards
    from wavegen.data.store import open_store

    started = time.perf_counter()
    clips = find_clips(
        options.folder,
        labels=_names(options.labels),
        label_pattern=options.label_pattern,
        validation_fraction=options.validation_fraction,
        on_bad_file=options.on_bad_file,
    )
    rate = options.sample_rate
    if rate is None:
        rate = clips.commonest_sample_rate()
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
    from wavegen.data.clips import find_clips, summary

    labels = _names(options.labels)
    clips = find_clips(options.path, labels=labels, label_pattern=options.label_pattern)
    print(summary(clips, clips.commonest_sample_rate()))


def _names(listed: str | None) -> list[str] | None:
    if listed is None:
        return None
    # As `wavegen train` takes it: [digit,speaker]
    names = (name.strip() for name in listed.strip("[]").split(","))
    return [name for name in names if name]


def _one_line(text: str) -> str:
    return display(" ".join(text.split()))


# torch has a class of errors only for memory of a GPU; its allocator on the CPU, the driver,
# cuBLAS and Triton say it in words.
_NO_MEMORY = re.compile(
    "out of memory|(can't|cannot|could not) allocate memory|not enough memory|ALLOC_FAILED"
    "|bad_alloc|can't start new thread",
    re.IGNORECASE,
)
_COMMANDS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "prepare": _prepare,
    "generate": _generate,
    "score": _score,
    "classify": _classify,
    "detect": _detect,
    "evaluate": _evaluate,
    "info": _info,
}
