"""Train, generate every class, and check the result, in about three minutes.

If too few clips are recognised, training is resumed, at most twice: a slow or busy machine needs
more time.

python scripts/demo.py [FOLDER]
"""

import shutil
import sys
from contextlib import suppress
from pathlib import Path

import librosa
import numpy as np
from instruments import write_instruments

from wavegen.audio import reading
from wavegen.audio.plots import write_spectrogram
from wavegen.commands.main import main as wavegen
from wavegen.data import labels as labelling
from wavegen.data.clips import find_clips
from wavegen.distributions.sampling import Sampling
from wavegen.errors import AudioFileError, WavegenError
from wavegen.generation.generate import Stream
from wavegen.generation.wav_files import file_stem, generate_files
from wavegen.models.serialization import load_config
from wavegen.training.run_folder import one_of_each_class

HOME = Path("runs") / "demo"
# Minutes of training after which the clips are checked, and the share of them that must be
# nearest to the requested class.
MINUTES = (2, 4, 8)
ENOUGH = 0.9
# In two minutes, many small steps of a network with a receptive field of 64 ms learn most.
INSTRUMENT_OPTIONS = [
    "--data.batch_size=1",
    "--model.network.layers=16",
    "--model.learning_rate=6e-3",
]
CLIPS_OF_EACH = 10
SAMPLING = Sampling(temperature=0.9)


def main(folder: str | None) -> int:
    """Run the demo and return its exit status."""
    home = next_run()
    run, options = home / "run", []
    if folder is None:
        data = home / "instruments"
        print(f"synthesising instruments into {data}")
        write_instruments(data)
        options = INSTRUMENT_OPTIONS
    else:
        data = Path(folder)
    words = [str(data), "--run", str(run), *options]
    for minutes in MINUTES:
        limit = f"00:00:{minutes:02}:00"
        limits = ["--trainer.max_time", limit, "--trainer.val_check_interval", limit]
        if status := wavegen(["train", *words, *limits]):
            return status
        share = generated(data, run, home / "out")
        # Two minutes need not be enough for other recordings.
        if folder is not None or share is None or share >= ENOUGH:
            return 0
        words = ["--resume", str(run)]
    print(
        f"After {MINUTES[-1]} minutes that is less than {ENOUGH:.0%}: the machine is slow or busy. "
        f"To train further: wavegen train --resume {run} --time 20m"
    )
    return 0


def generated(data: Path, run: Path, out: Path) -> float | None:
    """Generate clips of every class; the recognised share, or None without labels."""
    config = load_config(run)
    kinds = one_of_each_class(config.labels)
    streams = [Stream(kind, index) for kind in kinds for index in range(CLIPS_OF_EACH)]
    print(f"generating {len(streams)} clips into {out}")
    shutil.rmtree(out, ignore_errors=True)
    paths = generate_files(run, streams, typical_seconds(data), out, sampling=SAMPLING)
    for kind in kinds:
        stem = out / file_stem(Stream(kind), config.labels, seed=0)
        wav, png = stem.with_suffix(".wav"), stem.with_suffix(".png")
        title = labelling.describe(kind, config.labels)
        write_spectrogram(png, reading.read(wav), config.sample_rate, title)
        print(f"{wav}  {png}")
    if not config.labels:
        return None
    share = recognised(data, streams, paths, config.sample_rate)
    print(f"{share:.0%} of the generated clips are nearest to the requested class")
    return share


def next_run() -> Path:
    """A new folder for this run of the demo."""
    number = 1
    while (folder := HOME / str(number)).exists():
        number += 1
    return folder


def typical_seconds(data: Path) -> float:
    """Median length of the clips, two seconds at most."""
    infos = [clip.info for clip in find_clips(data).clips]
    return min(2.0, float(np.median([info.frames / info.sample_rate for info in infos])))


def recognised(data: Path, streams: list[Stream], paths: list[Path], sample_rate: int) -> float:
    """Share of clips whose log-mel statistics are nearest to those of the requested class.

    The statistics of a class are the means over the training clips of the first label
    attribute. The model is not used.
    """
    attribute = next(iter(streams[0].labels))
    statistics, labels = [], []
    for clip in find_clips(data).of("train"):
        if attribute in clip.labels:
            # Training has listed the damaged files.
            with suppress(AudioFileError):
                statistics.append(log_mel_statistics(clip.path, sample_rate))
                labels.append(clip.labels[attribute])
    features, names = np.stack(statistics), np.array(labels)
    classes = sorted(set(names))
    means = np.stack([features[names == name].mean(axis=0) for name in classes])
    hits = 0
    for stream, path in zip(streams, paths, strict=True):
        distances = np.linalg.norm(means - log_mel_statistics(path, sample_rate), axis=1)
        hits += classes[int(distances.argmin())] == stream.labels[attribute]
    return hits / len(paths)


def log_mel_statistics(path: Path, sample_rate: int) -> np.ndarray:
    """Mean and standard deviation over time of the log-mel bands, in dB below the loudest.

    Only the upper 30 dB count: the noise of 8-bit codes lies below.
    """
    waveform = reading.read(path, sample_rate)
    mel = librosa.feature.melspectrogram(
        y=waveform, sr=sample_rate, n_fft=512, hop_length=128, n_mels=32
    )
    decibels = librosa.power_to_db(mel, ref=np.max, top_db=30)
    return np.concatenate([decibels.mean(axis=1), decibels.std(axis=1)])


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else None))
    except WavegenError as error:
        sys.exit(f"demo: {error}")
