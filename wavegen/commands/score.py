"""`wavegen score`: exact bits per sample of recordings."""

import argparse
import sys
from collections.abc import Iterator, Sequence

from wavegen.commands.options import add_scoring

DESCRIPTION = (
    "Compute the exact bits per sample of every recording, and of all together. The exit status "
    "is 1 if a file could not be read."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_scoring(parser)
    parser.add_argument(
        "--per-sample", metavar="FOLDER", help="write the bits of every sample, one npz per file"
    )
    parser.add_argument(
        "--plot",
        metavar="FOLDER",
        help="draw the waveform, the surprisal and the spectrogram, one PNG per file",
    )


def run(options: argparse.Namespace) -> int:
    """Print the bits of every file and of all together.

    Returns:
        1 if a file could not be read, else 0.
    """
    import numpy as np

    from wavegen.codecs.counts import entropy
    from wavegen.commands.inputs import sources_of, unfinished_files
    from wavegen.commands.output import Rows, progress
    from wavegen.data import labels as labelling
    from wavegen.models.serialization import load_model
    from wavegen.scoring.sample_files import SampleFiles
    from wavegen.scoring.score import Score, score
    from wavegen.scoring.sources import Source, seconds_of
    from wavegen.utils.device import pick_device
    from wavegen.utils.distributed import by_ranks

    network = load_model(options.model, pick_device(options.device))
    sources = sources_of(options)
    config = network.config
    kind = labelling.parse(options.label, config.labels)
    files = SampleFiles(config.sample_rate, options.per_sample, options.plot)
    named = list(zip(sources, files.names(options.paths, sources), strict=True))
    files.make_folders()
    fields = ("path", "samples", "seconds", "bits", "bits_per_sample", "error")
    rows = Rows(options.format, fields, config.sample_rate)
    bits, samples, histogram = 0.0, 0, np.zeros(config.codec.codes, np.int64)
    with progress() as count, unfinished_files(Score, options, files) as kept:

        def work(some: Sequence[tuple[Source, str]]) -> Iterator[Score]:
            ours = [source for source, _ in some]
            watch = files.watch if files.wanted else None
            scores = score(network, ours, [kind], watch=watch, progress=count)
            for each, (_, name) in zip(scores, some, strict=True):
                yield files.write(name, each)

        scores = by_ranks(named, work, lambda item: seconds_of(item[0]), kept)
        if scores is None:
            return 0
        pairs = ((each, None) for each in scores)
        for row, each, _ in rows.readable(pairs):
            total = float(each.bits[0])
            bits += total
            samples += each.samples
            histogram += each.histogram
            rows.write({**row, "bits": total, "bits_per_sample": total / each.samples})
    print(
        f"all       {bits / samples:.4f} bits per sample over {samples:,} samples "
        f"(uniform {np.log2(config.codec.codes):.1f}, "
        f"order-0 {entropy(histogram):.2f})",
        file=sys.stdout if options.format == "table" else sys.stderr,
    )
    return rows.status()
