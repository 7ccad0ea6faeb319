"""`wavegen.load`: a trained model that generates, scores, classifies and detects."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from wavegen.api.audio import is_several, rate_of, read_waveform
from wavegen.api.generating import Generating, Recording, Recordings
from wavegen.api.results import Classification, Detection, Score
from wavegen.audio.waveforms import as_waveform
from wavegen.data.labels import label_ids
from wavegen.errors import AudioFileError
from wavegen.models.serialization import load_with_fingerprint
from wavegen.scoring import classify as classifying
from wavegen.scoring import detect as detecting
from wavegen.scoring import score as scoring
from wavegen.scoring.sources import Source, find_sources
from wavegen.utils.device import pick_device


class Model(Generating):
    """A trained network, loaded once; made by `wavegen.load`.

    Labels are keyword arguments named after the label attributes, `model.generate(digit="7")`, or
    a dictionary, `labels={"digit": "7"}`. An attribute that is left out is unspecified.

    Recordings are paths or waveforms. A waveform is an array, a tensor or a list of shape (time,):
    float in [-1, 1], int16 or int32. Its rate is `sample_rate`, by default that of the model.
    A list of recordings, or a folder, gives a list of results.

    Attributes:
        path: the run folder or model directory.
        network: the `torch.nn.Module`, in evaluation mode and without gradients. To train it
            further, call `model.network.train().requires_grad_()`. Every call of a method uses
            the current weights.
    """

    def __init__(self, path: str | Path, device: str | None = None) -> None:
        self.path = Path(path)
        network, self._sha256 = load_with_fingerprint(path, pick_device(device))
        super().__init__(network)

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """Every label attribute with its classes."""
        return {name: tuple(classes) for name, classes in self.config.labels.items()}

    def __repr__(self) -> str:
        """The path, and the text that `wavegen info` prints."""
        return f"Model({str(self.path)!r})\n{self.config.describe()}"

    def score(
        self,
        recordings: Recordings,
        sample_rate: int | None = None,
        *,
        labels: Mapping[str, object] | None = None,
        **attributes: object,
    ) -> Any:
        """Compute the exact bits of a recording, given its labels: a `Score`, or a list of them.

        Args:
            recordings: one recording, or several.
            sample_rate: rate of waveforms in Hz.
            labels: attribute -> class.
            attributes: attribute=class, instead of `labels`.

        Raises:
            AudioFileError: a recording cannot be read.
        """
        sources, single = self._sources(recordings, sample_rate)
        found = scoring.score(self.network, sources, self._kind(labels, attributes))
        results = [
            Score(_name(each), float(_good(each).bits[0]), each.samples, each.seconds)
            for each in found
        ]
        return results[0] if single else results

    def classify(
        self,
        recordings: Recordings,
        sample_rate: int | None = None,
        *,
        labels: Mapping[str, object] | None = None,
        **attributes: object,
    ) -> Any:
        """Classify by Bayes' rule with a uniform prior: a `Classification`, or a list of them.

        Args:
            recordings: one recording, or several.
            sample_rate: rate of waveforms in Hz.
            labels: attribute -> class, for attributes whose class is known.
            attributes: attribute=class, instead of `labels`.

        Raises:
            AudioFileError: a recording cannot be read.
        """
        sources, single = self._sources(recordings, sample_rate)
        found = classifying.classify(self.network, sources, self._kind(labels, attributes))
        results = [
            Classification(_name(_good(each.score)), each.predicted, each.posterior)
            for each in found
        ]
        return results[0] if single else results

    def calibrate(self, normal: str | Path | Sequence[str | Path], **options: Any) -> None:
        """Calibrate the detector on normal recordings; see `wavegen.scoring.detect.calibrate`."""
        detecting.calibrate(self.path, normal, device=self.network.device, **options)

    def detect(
        self,
        recordings: Recordings,
        sample_rate: int | None = None,
        *,
        false_alarms: float = 0.01,
    ) -> Any:
        """Tell whether recordings are normal: a `Detection`, or a list of them.

        Calibrate the model first, by `calibrate` or `wavegen detect --calibrate`.

        Args:
            recordings: one recording, or several.
            sample_rate: rate of waveforms in Hz.
            false_alarms: share of normal recordings that may be reported as not normal.

        Raises:
            ModelError: the model has not been calibrated.
        """
        sources, single = self._sources(recordings, sample_rate)
        results = []
        for each in self.detector(false_alarms).files(sources):
            verdict = each.verdict
            name = _name(_good(each.score))
            assert verdict is not None
            assert each.normal is not None
            results.append(
                Detection(
                    name,
                    each.normal,
                    verdict.p,
                    verdict.distance,
                    verdict.raised_by,
                    verdict.spans,
                )
            )
        return results[0] if single else results

    def detector(self, false_alarms: float = 0.01) -> detecting.AnomalyDetector:
        """Make a detector for waveforms and live sound from a calibrated model."""
        calibration = detecting.load_detector(self.path, self._sha256)
        return detecting.AnomalyDetector(self.network, calibration, false_alarms)

    def logits(
        self,
        recording: Recording,
        sample_rate: int | None = None,
        *,
        labels: Mapping[str, object] | None = None,
        **attributes: object,
    ) -> torch.Tensor:
        """Compute the logits of a recording under teacher forcing: float32 (time, Q).

        Row t is computed from the samples before t. One parallel pass computes all rows, and
        needs the memory for that. Gradients are kept if the weights of `network` require them.
        """
        device = self.network.device
        wave = read_waveform(recording, sample_rate, self.sample_rate)
        codes = torch.from_numpy(self.config.codec.encode(wave)).to(device)
        ids = label_ids([self._kind(labels, attributes)], self.config.labels).to(device)
        trains = any(weight.requires_grad for weight in self.network.parameters())
        with torch.inference_mode(not trains):
            return self.network(codes[None], ids)[0].float()

    def _sources(
        self, recordings: Recordings, sample_rate: int | None
    ) -> tuple[list[Source], bool]:
        """The recordings to score, and whether a single result is to be returned."""
        several = is_several(recordings)
        parts: Any = recordings if several else [recordings]
        sources: list[Source] = []
        for number, each in enumerate(parts):
            if isinstance(each, str | Path):
                sources += find_sources(each)
                several |= Path(each).is_dir()
            else:
                name = Path(f"waveform {number}" if several else "waveform")
                sources.append(
                    Source(name, waveform=as_waveform(each), sample_rate=rate_of(each, sample_rate))
                )
        return sources, not several


def load(path: str | Path, device: str | None = None) -> Model:
    """Load a trained model from a run folder or a model directory.

    Args:
        path: run folder or model directory.
        device: `cpu`, `cuda` or `cuda:1`; by default the GPU if there is one.

    Raises:
        ModelError: the folder holds no model, or a damaged one.
        ConfigError: this machine has no such device.
    """
    return Model(path, device)


def _good(score: scoring.Score) -> scoring.Score:
    if score.error:
        raise AudioFileError(f"{_name(score)}: {score.error}", reason=score.error)
    return score


def _name(score: scoring.Score) -> str:
    return str(score.source.path)
