"""Bits per sample of held-out recordings with weights of lower precision.

python scripts/precision_bits.py MODEL FOLDER [--json FILE]

FOLDER is the training folder of MODEL, so that the same clips are held out.
"""

import argparse
from pathlib import Path

import numpy as np
from machine import json_file, machine, run

from wavegen.data.decoding import decoded
from wavegen.data.settings import training_settings
from wavegen.engines.precision import PRECISIONS, rounded
from wavegen.errors import ConfigError
from wavegen.models.serialization import fingerprint, load_model
from wavegen.scoring.likelihood import recording_bits
from wavegen.scoring.sources import find_as_trained
from wavegen.utils.files import write_json


def main() -> int:
    """Score all held-out clips in every precision."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=json_file, metavar="FILE")
    options = parser.parse_args()
    network = load_model(options.model)
    config = network.config
    settings = training_settings(options.model)
    clips = find_as_trained(options.folder, settings).of("validation")
    if not clips:
        raise ConfigError(f"{options.folder}: nothing is held out")
    networks = {precision: rounded(network, precision) for precision in PRECISIONS}
    totals, samples = dict.fromkeys(PRECISIONS, 0.0), 0
    for clip in clips:
        waveform = np.concatenate(list(decoded(clip.path, config.sample_rate, settings.trim)))
        samples += len(waveform)
        for precision, each in networks.items():
            totals[precision] += recording_bits(each, waveform, clip.labels)
    bits = {precision: total / samples for precision, total in totals.items()}
    for precision, figure in bits.items():
        print(f"{precision:<10}{figure:.5f} bits per sample {figure - bits['float32']:+.5f}")
    print(f"{len(clips)} held-out clips, {samples:,} samples")
    if options.json:
        about = {"model_sha256": fingerprint(options.model), "clips": len(clips)}
        write_json(options.json, {"machine": machine(), **about, "samples": samples, "bits": bits})
    return 0


if __name__ == "__main__":
    run(main)
