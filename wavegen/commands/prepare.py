"""`wavegen prepare`: decode recordings ahead of training."""

import argparse

from wavegen.commands.options import add_labels, add_pattern, add_store, names_of

DESCRIPTION = (
    "Decode and resample recordings on all cores, ahead of training. Without --shards they are "
    "kept where 'wavegen train' with the same settings finds them."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument("folder", metavar="FOLDER", help="recordings, as for training")
    parser.add_argument(
        "--shards",
        metavar="OUT",
        help="write shards for 'wavegen train OUT' to a folder or to s3://BUCKET/NAME",
    )
    parser.add_argument(
        "--data.sample_rate",
        dest="sample_rate",
        type=int,
        metavar="HZ",
        help="rate to resample to (default: that of most recordings)",
    )
    add_labels(parser)
    add_pattern(parser)
    parser.add_argument(
        "--data.validation_fraction",
        dest="validation_fraction",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="share of the recordings to hold out where the data has no split",
    )
    parser.add_argument(
        "--data.trim", dest="trim", type=float, metavar="DB", help="cut silence at both ends"
    )
    parser.add_argument(
        "--data.on_bad_file",
        dest="on_bad_file",
        default="skip",
        metavar="DO",
        help="what to do with files that cannot be read: skip or fail",
    )
    add_store(parser)


def run(options: argparse.Namespace) -> None:
    """Decode, and print a summary and the path of the result."""
    import time

    from wavegen.data.clips import find_clips
    from wavegen.data.decoding import seconds
    from wavegen.data.settings import DataSettings
    from wavegen.data.shard_writer import write_shards
    from wavegen.data.store import open_clips
    from wavegen.data.summary import summary

    started = time.perf_counter()
    settings = DataSettings(
        names_of(options.labels), options.label_pattern, options.validation_fraction, options.trim
    )
    bad = options.on_bad_file
    clips = find_clips(options.folder, settings, bad)
    rate = options.sample_rate
    if rate is None:
        rate = clips.commonest_sample_rate()
    if options.shards is None:
        clips, store = open_clips(clips, rate, options.store, bad)
        place = store.folder
    else:
        clips = write_shards(clips, rate, options.shards, bad, options.store)
        place = options.shards
    took = time.perf_counter() - started
    print(summary(clips, rate))
    print(f"prepared: {place}, in {took:.0f} s ({seconds(clips.clips) / took:,.0f} x real time)")
