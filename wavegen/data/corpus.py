"""Decoded clips and their labels, cut into pieces that form batches of codes for a network."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch

from wavegen.codecs import windows
from wavegen.codecs.codec import Codec
from wavegen.data import labels as labelling
from wavegen.data.arrays import ArrayStore
from wavegen.data.clip_features import frames_of_clips
from wavegen.data.labels import Labels
from wavegen.data.shards import ShardStore
from wavegen.data.store import AudioStore
from wavegen.errors import ConfigError
from wavegen.models.base import Network
from wavegen.models.condition import Condition, FramesOf, stack


class Batch(TypedDict):
    """The input of training, see `Corpus.batch`.

    Attributes:
        inputs: int64 (B, N), codes and start symbols; the last T precede the targets.
        targets: int64 (B, T), `windows.IGNORED` where nothing is predicted.
        labels: int64 (B, A), ids of the labels.
        clips: int64 (B,), number of the clip of each row.
        beginning: whether the inputs start at the beginning of a clip, without earlier samples.
        frames: float32 (B, F, D), features for a network that takes them; NaN is unspecified.
        first: int64 (B,), number of the sample after the first input, counted from the beginning
            of the first frame.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    labels: torch.Tensor
    clips: torch.Tensor
    beginning: bool
    frames: NotRequired[torch.Tensor]
    first: NotRequired[torch.Tensor]


def condition_of(batch: Batch) -> Condition:
    """The condition of the rows of a batch."""
    return Condition(batch["labels"], batch.get("frames"))


@dataclass(frozen=True)
class Corpus:
    """Decoded clips with their labels, for a network with a certain receptive field and codec.

    Args:
        store: the clips.
        label_ids: int64 (clips, A), as in `wavegen.data.labels`.
        receptive_field: receptive field of the network; None if it has no limit.
        codec: codec of the network.
        frames: returns the frames of a clip, for a network that takes them.
        hop: samples of a frame.
        margin: frames on each side of a frame that the network needs.
    """

    store: AudioStore | ShardStore | ArrayStore
    label_ids: np.ndarray
    receptive_field: int | None
    codec: Codec
    frames: Callable[[int], Any] | None = None
    hop: int = 0
    margin: int = 0

    @classmethod
    def of(
        cls,
        store: AudioStore | ShardStore | ArrayStore,
        labels: Sequence[Labels],
        network: Network,
        frames: Callable[[int], Any] | None = None,
    ) -> "Corpus":
        """Make a corpus for a network from a store and the labels of its clips.

        Args:
            store: the clips.
            labels: labels of each clip.
            network: the network that will be trained.
            frames: returns the frames of a clip; by default they are computed from its sound.

        Raises:
            LabelError: the network does not know a label.
            DataError: the features of a clip cannot be computed.
        """
        config = network.config
        ids = labelling.label_ids(labels, config.labels).numpy()
        corpus = cls(store, ids, network.receptive_field, config.codec)
        if config.feature_set is None:
            return corpus
        frames = frames or frames_of_clips(config.feature_set, store)
        return replace(corpus, frames=frames, hop=network.hop or 1, margin=network.margin)

    @classmethod
    def from_arrays(
        cls,
        clips: Sequence[Any],
        labels: Sequence[Mapping[str, object]] | None,
        sample_rate: int,
        network: Network,
    ) -> "Corpus":
        """Make a corpus for a network from clips in memory.

        Args:
            clips: waveforms (time,): arrays, tensors or lists; float in [-1, 1], int16 or int32.
            labels: attribute -> class of each clip; attributes that are left out, or all of them,
                are unspecified.
            sample_rate: rate of the clips in Hz; they are resampled to that of the network.
            network: the network that will be trained.

        Raises:
            AudioFileError: a clip has no samples, or holds NaN or infinity.
            ConfigError: the shape or type of a clip is wrong, or the number of labels differs.
            LabelError: the network does not know a label.
        """
        store = ArrayStore(clips, sample_rate, network.config.sample_rate)
        given = [{}] * len(store) if labels is None else labels
        if len(given) != len(store):
            raise ConfigError(f"{len(store)} clips and {len(given)} labels: give one for each clip")
        kinds = [{name: str(each) for name, each in kind.items()} for kind in given]
        return cls.of(store, kinds, network)

    def pieces(self, clips: np.ndarray, longest: int) -> np.ndarray:
        """Cut clips into equal pieces of at most `longest` samples.

        `batch` adds the whole receptive field to a piece, so the places of the cuts do not matter.

        Args:
            clips: int64 (clips,), numbers of whole clips, or (parts, 3), clip, start and stop.
            longest: greatest length in samples.

        Returns:
            int64 (pieces, 3): clip, start, stop.
        """
        parts = clips if clips.ndim == 2 else self.whole(clips)
        lengths = parts[:, 2] - parts[:, 1]
        counts = -(-lengths // longest)
        clip, start, length, count = (
            np.repeat(each, counts) for each in (parts[:, 0], parts[:, 1], lengths, counts)
        )
        number = np.arange(len(clip)) - np.repeat(np.cumsum(counts) - counts, counts)
        edges = [start + each * length // count for each in (number, number + 1)]
        return np.stack([clip, *edges], axis=1)

    def whole(self, clips: np.ndarray) -> np.ndarray:
        """Whole clips, int64 (clips,), as parts int64 (clips, 3): clip, 0 and length."""
        return np.stack([clips, np.zeros_like(clips), self.store.lengths[clips]], axis=1)

    def batch(self, pieces: np.ndarray, time: int, warm_up: int | None = None) -> Batch:
        """Make a batch of pieces padded to `time`, each with the codes that it depends on.

        These are a receptive field. If it has no limit, the state of the network is warmed up on
        the codes before the piece, on at most `warm_up` or, by default, `time` of them.
        """
        later = bool(pieces[:, 1].any())
        if self.receptive_field is None:
            history, beginning = 0, True
            warm_up = (time if warm_up is None else warm_up) if later else 0
        else:
            # Before the beginning of a clip one start symbol is enough.
            history = self.receptive_field - 1 if later else 0
            warm_up, beginning = 0, not history
        rows, warmed, frames = [], [], []
        for clip, start, stop in pieces.tolist():
            warmed.append(min(start, warm_up))
            waveform, first = self.store.waveform(clip), start - warmed[-1]
            rows.append(windows.window(waveform, first, stop, history, self.codec))
            if self.frames is not None:
                own, begin = FramesOf(self.frames(clip)), first - history
                frames.append(own.between(begin, stop, self.hop, self.margin).moved(begin))
        inputs, targets = windows.stack(rows, history, time + warm_up)
        for row, count in enumerate(warmed):
            targets[row, :count] = windows.IGNORED
        batch: Batch = {
            "beginning": beginning,
            "inputs": torch.from_numpy(inputs),
            "targets": torch.from_numpy(targets),
            "labels": torch.from_numpy(self.label_ids[pieces[:, 0]]),
            "clips": torch.from_numpy(np.ascontiguousarray(pieces[:, 0])),
        }
        if frames:
            batch["frames"], batch["first"] = stack(frames)
        return batch
