"""The DataModule: from a folder of recordings to batches of codes."""

import itertools
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from wavegen.audio.features import parse
from wavegen.codecs.counts import CodeCounts
from wavegen.data.batches import EpochBatches, TrainingCrops, UntilStopped, ValidationWindows
from wavegen.data.cache import digest_of, figures_name
from wavegen.data.clip_features import statistics
from wavegen.data.clips import ClipSet, find_clips
from wavegen.data.corpus import Corpus
from wavegen.data.features_from import FramesFromFiles
from wavegen.data.folders import count
from wavegen.data.settings import DataSettings
from wavegen.data.shards import ShardStore, is_shards
from wavegen.data.splits import hold_out_ends
from wavegen.data.store import AudioStore, open_clips
from wavegen.errors import ConfigError, DataError
from wavegen.models.base import Network
from wavegen.training.workers import end_workers_at_exit, ignore_signals


class AudioDataModule(LightningDataModule):
    """Recordings in a folder, their labels and their splits.

    Args:
        folder: searched recursively for WAV, FLAC, OGG and MP3; or shards written by
            `wavegen prepare`, in a folder or at an address like `s3://...`, whose labels,
            splits, rate and trimming were settled when they were written.
        sample_rate: rate in Hz; by default that of most clips, at most 16000.
        labels: columns of metadata to use as label attributes; by default all.
        label_pattern: regular expression, searched in the file name, whose named groups are
            label attributes.
        features: features that condition the network, such as `log_mel`, `log_mel:hifigan`,
            `pitch`, `loudness` or `position`; by default none.
        features_from: folder with features of the clips in `.npy` files of the same names, such as
            those that a text-to-speech system has predicted; by default they are computed.
        validation_fraction: share of the clips to hold out if the folder defines no split.
        on_bad_file: `skip` leaves out a file that cannot be used and says so; `fail` stops.
        trim: cut silence at both ends, in dB below the peak of a clip; by default off.
        store: folder for decoded clips; by default in the user's cache.
        keep_gb: for shards in object storage, largest size in GB of their copies in `store`. An
            epoch reads a fourth of it at a time.
        crop: largest number of samples that one row of a training batch predicts.
        batch_size: rows of that length in a training batch, on each device; a batch of
            shorter rows has more of them.
        num_workers: processes that prepare batches; with 0 the main process prepares them.
        label_dropout: probability that an attribute of a training clip is left unspecified, half
            of the time alone and half of the time together with all others.
        seed: seed of the order of the crops and of label dropout.
    """

    def __init__(
        self,
        folder: str,
        sample_rate: int | None = None,
        labels: list[str] | None = None,
        label_pattern: str | None = None,
        features: list[str] | None = None,
        features_from: str | None = None,
        validation_fraction: float = 0.1,
        on_bad_file: Literal["skip", "fail"] = "skip",
        trim: float | None = None,
        store: str | None = None,
        keep_gb: float = 8.0,
        crop: int = 4096,
        batch_size: int = 8,
        num_workers: int = 0,
        label_dropout: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value in {"crop": crop, "batch_size": batch_size}.items():
            if value < 1:
                raise ConfigError(f"--data.{name} is {value}: it must be 1 or more")
        if num_workers < 0:
            raise ConfigError(f"--data.num_workers is {num_workers}: it must be 0 or more")
        if keep_gb <= 0:
            raise ConfigError(f"--data.keep_gb is {keep_gb}: it must be above 0")
        if not 0 <= label_dropout <= 1:
            raise ConfigError(f"--data.label_dropout is {label_dropout}: it must be from 0 to 1")
        if not 0 <= seed < 2**64:
            raise ConfigError(f"--data.seed is {seed}: it must be from 0 to 2^64 - 1")
        self.folder = folder
        self.sample_rate = sample_rate
        self.labels = labels
        self.label_pattern = label_pattern
        self.features = features
        self.features_from = features_from
        self.validation_fraction = validation_fraction
        self.on_bad_file = on_bad_file
        self.trim = trim
        self.store_folder = store
        self.keep_gb = keep_gb
        self.crop = crop
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.label_dropout = label_dropout
        self.seed = seed
        # Set when training is to stop: a validation then ends after the present batch.
        self.stopping = False
        self.order0_bits = float("nan")
        self.clamped = 0
        self._clip_set: ClipSet | None = None
        self._store: AudioStore | ShardStore | None = None
        self._corpus: Corpus | None = None
        self._remarks: list[str] = []

    @property
    def clip_set(self) -> ClipSet:
        """The clips of the folder, which is searched once."""
        if self._clip_set is None and is_shards(self.folder):
            self.decode()
        if self._clip_set is None:
            self._clip_set = find_clips(
                self.folder,
                DataSettings(
                    None if self.labels is None else tuple(self.labels),
                    self.label_pattern,
                    self.validation_fraction,
                    self.trim,
                ),
                self.on_bad_file,
            )
        return self._clip_set

    def rate(self) -> int:
        """The sample rate of training in Hz; no recording is decoded to find it."""
        clip_set = self.clip_set
        if self._store is not None:
            return self._store.sample_rate
        return clip_set.commonest_sample_rate() if self.sample_rate is None else self.sample_rate

    def decode(self) -> AudioStore | ShardStore:
        """The decoded clips, decoded at the first call; those that fail leave `clip_set`."""
        if self._store is None and is_shards(self.folder):
            self._store = self._shards()
            self._clip_set = self._store.clip_set
        if self._store is None:
            # The errors of shards name the folder already.
            clip_set, rate = self.clip_set, self.rate()
            try:
                self._clip_set, self._store = open_clips(
                    clip_set, rate, self.store_folder, self.on_bad_file
                )
            except DataError as error:
                raise DataError(f"{self.folder}: {error}") from error
            if not self.clip_set.of("train"):
                raise DataError(f"{self.folder}: no clips are left to train on")
        return self._store

    def _shards(self) -> ShardStore:
        store = ShardStore(self.folder, self.store_folder, self.keep_gb * 1e9)
        settled: dict[str, Any] = {"label_pattern": self.label_pattern, "trim": self.trim}
        if self.labels != list(store.clip_set.attributes):
            settled["labels"] = self.labels
        if self.sample_rate not in (None, store.sample_rate):
            settled["sample_rate"] = self.sample_rate
        for name, value in settled.items():
            if value is not None:
                raise ConfigError(
                    f"--data.{name} is {value}, but this was settled when the shards were "
                    "written: leave it out, or write new shards with 'wavegen prepare'"
                )
        if not store.clip_set.of("train"):
            raise DataError(f"{self.folder}: no clips are left to train on")
        return store

    def feature_definitions(self) -> list[dict[str, Any]]:
        """The features for the config of a network, see `ModelConfig.features`."""
        return parse(self.features, self.rate()).to_json() if self.features else []

    def adopt(self, other: "AudioDataModule") -> None:
        """Take over the clips that another module of the same folder has decoded."""
        self._store, self._clip_set = other.decode(), other.clip_set

    def match(self, network: Network) -> None:
        """Prepare the clips for `network`: for its rate, codec, labels and receptive field.

        Raises:
            ConfigError: the network has another sample rate.
            LabelError: a clip has a label that the network does not know.
        """
        config = network.config
        store = self.decode()
        if config.sample_rate != store.sample_rate:
            raise ConfigError(
                f"the data is at {store.sample_rate} Hz and the network at {config.sample_rate} "
                "Hz: set --data.sample_rate and --model.network.sample_rate alike, or neither"
            )
        if self.features and list(config.features) != self.feature_definitions():
            raise ConfigError(
                f"--data.features is {','.join(self.features)}, but the network has "
                f"{config.feature_set.name if config.feature_set else 'none'}: leave it out, or "
                "give the network these features"
            )
        clips = self.clip_set.clips
        frames = self._frames_from_files(network)
        self._corpus = Corpus.of(store, [clip.labels for clip in clips], network, frames)
        splits = np.array([clip.split for clip in clips], dtype=object)
        splits[[] if frames is None else frames.unusable] = "none"
        if not (splits == "train").any():
            raise DataError(f"no training clip is left: {self._remarks[0]}")
        whole = self._corpus.whole(np.flatnonzero(splits == "train"))
        held_out = self._corpus.whole(np.flatnonzero(splits == "validation"))
        self.training, self.validation = whole, held_out
        if not len(held_out):
            self.training, self.validation = hold_out_ends(
                whole, self.clip_set.settings.validation_fraction, store.sample_rate
            )
        # Without held-out clips, figures of the training clips are better than none.
        if not len(self.validation):
            self.validation = self.training

        def compute() -> dict[str, float]:
            counts = CodeCounts(config.codec)
            for clip, start, stop in self.training.tolist():
                counts.add(store.waveform(clip)[start:stop])
            return counts.figures()

        uncut = np.array_equal(whole, self.training)
        name = figures_name(whole[:, 0] if uncut else self.training, config.codec.codes)
        figures = store.figures(name, compute)
        self.order0_bits, self.clamped = figures["order0_bits"], figures["clamped"]
        if self._corpus.frames is not None:
            chosen = np.unique(self.training[:, 0]).tolist()
            size = network.config.feature_set.size  # type: ignore[union-attr]
            found = statistics(self._corpus.frames, chosen, size)
            network.fit_features(*(torch.from_numpy(each) for each in found))

    def _frames_from_files(self, network: Network) -> FramesFromFiles | None:
        """The frames in the folder `features_from`, if one is given."""
        if self.features_from is None:
            return None
        features = network.config.feature_set
        if features is None:
            raise ConfigError("--data.features_from needs --data.features, such as log_mel")
        if self.clip_set.settings.trim is not None:
            raise ConfigError("--data.trim moves recordings against --data.features_from: omit one")
        names = [clip.name for clip in self.clip_set.clips]
        lengths = self.decode().lengths.tolist()
        frames = FramesFromFiles(self.features_from, features, names, lengths, self.on_bad_file)
        self._remarks += frames.remarks
        return frames

    def setup(self, stage: str | None = None) -> None:
        """Decode the clips and match them with the network, unless that has been done."""
        if self._corpus is None:
            if self.trainer is None:
                raise ConfigError(
                    "the data module does not know the network yet: call match(network), or let a "
                    "Trainer call setup"
                )
            network: Any = self.trainer.lightning_module.network
            self.match(network)

    def remarks(self) -> list[str]:
        """Remarks for the user on the data as it will be used; complete after `match`."""
        remarks = list(self._remarks)
        held_out = int((self.validation[:, 2] - self.validation[:, 1]).sum())
        if self.validation is self.training:
            remarks.append(
                "no clips are held out: validation repeats the training clips, and its "
                "figures say nothing about new recordings"
            )
        elif not self.clip_set.of("validation"):
            seconds = held_out / self.corpus.store.sample_rate
            remarks.append(
                f"no whole clip can be held out: the ends of {count(len(self.validation), 'clip')} "
                f"are, {seconds:.1f} s together"
            )
        if self.clamped:
            remarks.append(f"{self.clamped} samples beyond full scale are clamped")
        return remarks

    def contents(self) -> dict[str, dict[str, Any]]:
        """For training and validation: the number of clips and samples, and a digest.

        The digest is of the names of the clips in the folder, their labels and their lengths. The
        order-0 entropy of the training clips shows whether their sound has changed.
        """
        lengths = self.decode().lengths.tolist()
        found = {}
        for split in ("train", "validation"):
            listed = sorted(
                [clip.name, sorted(clip.labels.items()), length]
                for clip, length in zip(self.clip_set.clips, lengths, strict=True)
                if clip.split == split
            )
            samples = sum(length for *_, length in listed)
            found[split] = {"clips": len(listed), "samples": samples, "digest": digest_of(listed)}
        return {**found, "train": {**found["train"], "order0_bits": self.order0_bits}}

    @property
    def corpus(self) -> Corpus:
        """The decoded clips, prepared for a network; `ConfigError` before `match` or `setup`."""
        self.setup()
        assert self._corpus is not None
        return self._corpus

    def typical_seconds(self) -> float:
        """Median length of the training clips."""
        store = self.corpus.store
        return float(np.median(store.lengths[self.training[:, 0]])) / store.sample_rate

    def train_dataloader(self) -> DataLoader:
        """The batches of an epoch, see `TrainingCrops`."""
        crops = TrainingCrops(
            self.corpus,
            self.training,
            self.crop,
            self.batch_size,
            self.label_dropout,
            self.seed,
            *self._rank_and_ranks(),
        )
        if self.trainer is None:
            # Each iteration over the loader is an epoch.
            taken = itertools.count(0, len(crops))
            return self._loader(crops, EpochBatches(len(crops), lambda: next(taken)))
        progress = self.trainer.fit_loop.epoch_loop.batch_progress
        return self._loader(crops, EpochBatches(len(crops), lambda: progress.total.ready))

    def val_dataloader(self) -> DataLoader:
        """Windows that together cover every sample of the validation clips once."""
        windows = ValidationWindows(self.corpus, self.validation, *self._rank_and_ranks())
        return self._loader(windows, UntilStopped(windows, lambda: self.stopping))

    def _rank_and_ranks(self) -> tuple[int, int]:
        """The rank of this process and the number of processes; (0, 1) without a Trainer."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loader(self, dataset: Dataset, sampler: Sampler) -> DataLoader:
        if self.num_workers:
            end_workers_at_exit()
        return DataLoader(
            dataset,
            batch_size=None,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=ignore_signals,
        )
