"""Decoded clips as a network sees them, cut into pieces, which make batches of codes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import torch

from wavegen.codecs import windows
from wavegen.codecs.codec import Codec
from wavegen.data import labels as labelling
from wavegen.data.arrays import ArrayStore
from wavegen.data.labels import Labels
from wavegen.data.shards import ShardStore
from wavegen.data.store import AudioStore
from wavegen.errors import ConfigError
from wavegen.models.base import Network


class Batch(TypedDict):
    """What a network is trained on, see `Corpus.batch`.

    Attributes:
        inputs: int64 (B, N), codes and start symbols; the last T are followed by the targets.
        targets: int64 (B, T), `windows.IGNORED` where nothing is to be predicted.
        labels: int64 (B, A).
        clips: int64 (B,), the number of each row's clip.
        beginning: whether a network takes the inputs from the beginning: nothing came before.
    """

    inputs: torch.Tensor
    targets: torch.Tensor
    labels: torch.Tensor
    clips: torch.Tensor
    beginning: bool


@dataclass(frozen=True)
class Corpus:
    """Decoded clips with their labels, as a network of some receptive field sees them.

    Args:
        store: the clips.
        label_ids: int64 (clips, A) as in `wavegen.data.labels`.
        receptive_field: of the network; None where it has no limit.
        codec: of the network.
    """

    store: AudioStore | ShardStore | ArrayStore
    label_ids: np.ndarray
    receptive_field: int | None
    codec: Codec

    @classmethod
    def of(
        cls,
        store: AudioStore | ShardStore | ArrayStore,
        labels: Sequence[Labels],
        network: Network,
    ) -> "Corpus":
        """The clips of a store, attribute -> class of each, as a network sees them.

        Raises:
            LabelError: a label that the network does not know.
        """
        config = network.config
        ids = labelling.label_ids(labels, config.labels).numpy()
        return cls(store, ids, network.receptive_field, config.codec)

    @classmethod
    def from_arrays(
        cls,
        clips: Sequence[Any],
        labels: Sequence[Mapping[str, object]] | None,
        sample_rate: int,
        network: Network,
    ) -> "Corpus":
        """Clips in memory, as a network sees them.

        Args:
            clips: waveforms (time,): arrays, tensors or lists; float in [-1, 1], int16 or int32.
            labels: attribute -> class of each clip; what is left out, or all, is unspecified.
            sample_rate: of the clips, in Hz; they are resampled to the network's.
            network: that will be trained.

        Raises:
            AudioFileError: a clip without samples, or with NaN or infinity.
            ConfigError: clips of another shape or type, or not as many labels.
            LabelError: a label that the network does not know.
        """
        store = ArrayStore(clips, sample_rate, network.config.sample_rate)
        given = [{}] * len(store) if labels is None else labels
        if len(given) != len(store):
            raise ConfigError(f"{len(store)} clips and {len(given)} labels: give one for each clip")
        kinds = [{name: str(each) for name, each in kind.items()} for kind in given]
        return cls.of(store, kinds, network)

    def pieces(self, clips: np.ndarray, longest: int) -> np.ndarray:
        """Clips cut into equal pieces of at most `longest` samples.

        A piece carries the whole receptive field, so where the cuts fall changes nothing.

        Args:
            clips: int64 (clips,) of whole clips, or (parts, 3) of clip, start and stop.
            longest: samples.

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
        """Clips (int64 (clips,)) as parts: int64 (clips, 3) of clip, 0 and length."""
        return np.stack([clips, np.zeros_like(clips), self.store.lengths[clips]], axis=1)

    def batch(self, pieces: np.ndarray, time: int, warm_up: int | None = None) -> Batch:
        """Pieces padded to `time`, each after the codes that its predictions depend on.

        Those are a receptive field. Where it has no limit the state of the network is warmed up
        on the codes before, at most `warm_up` of them or, if that is not given, `time`.
        """
        later = bool(pieces[:, 1].any())
        if self.receptive_field is None:
            history, beginning = 0, True
            warm_up = (time if warm_up is None else warm_up) if later else 0
        else:
            # Before a beginning there is nothing: one start symbol is enough.
            history = self.receptive_field - 1 if later else 0
            warm_up, beginning = 0, not history
        rows, warmed = [], []
        for clip, start, stop in pieces.tolist():
            warmed.append(min(start, warm_up))
            waveform, first = self.store.waveform(clip), start - warmed[-1]
            rows.append(windows.window(waveform, first, stop, history, self.codec))
        inputs, targets = windows.stack(rows, history, time + warm_up)
        for row, count in enumerate(warmed):
            targets[row, :count] = windows.IGNORED
        return {
            "beginning": beginning,
            "inputs": torch.from_numpy(inputs),
            "targets": torch.from_numpy(targets),
            "labels": torch.from_numpy(self.label_ids[pieces[:, 0]]),
            "clips": torch.from_numpy(np.ascontiguousarray(pieces[:, 0])),
        }
