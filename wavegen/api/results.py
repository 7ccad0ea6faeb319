"""Results for one recording, as small dataclasses that print as one line."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """The exact likelihood of a recording: total `bits` of its `samples` at the model's rate."""

    name: str
    bits: float
    samples: int
    seconds: float

    @property
    def bits_per_sample(self) -> float:
        """The mean of -log2 p(x_t | x_1 .. x_t-1) over every sample."""
        return self.bits / self.samples

    def __str__(self) -> str:
        """One line."""
        return f"{self.name}: {self.bits_per_sample:.4f} bits per sample, {self.seconds:.2f} s"


@dataclass(frozen=True)
class Classification:
    """The most probable class of each attribute, and the posterior probability of each class."""

    name: str
    predicted: Mapping[str, str]
    posterior: Mapping[str, Mapping[str, float]]

    def __str__(self) -> str:
        """One line."""
        found = (
            f"{attribute} {each} ({self.posterior[attribute][each]:.3f})"
            for attribute, each in self.predicted.items()
        )
        return f"{self.name}: {', '.join(found)}"


@dataclass(frozen=True)
class Detection:
    """Whether a recording is normal; the fields are those of `wavegen.scoring.anomaly.Verdict`."""

    name: str
    normal: bool
    p: float
    distance: float
    raised_by: str | None
    spans: tuple[tuple[float, float], ...]

    def __str__(self) -> str:
        """One line."""
        verdict = "normal" if self.normal else f"anomalous, raised by {self.raised_by}"
        return f"{self.name}: {verdict} (p = {self.p:.4f}, distance {self.distance:.1f})"
