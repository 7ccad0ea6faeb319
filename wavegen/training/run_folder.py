"""A run folder: checkpoints, the best model, and samples of each validation."""

import dataclasses
import io
import logging
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.trainer.states import TrainerFn

from wavegen.audio import writing
from wavegen.audio.plots import spectrogram_png
from wavegen.data import labels as labelling
from wavegen.data.clips import ClipSet
from wavegen.data.labels import Attributes, Labels
from wavegen.data.settings import save_training
from wavegen.engines.choice import choose
from wavegen.generation.generate import Stream, sample_count, stream_chunks
from wavegen.models.base import Network
from wavegen.models.serialization import BEST, best_figures, save_model
from wavegen.training.lightning_module import LitModel
from wavegen.utils.files import appearing_whole, make_folder, write_bytes, write_json, write_text
from wavegen.utils.text import display

_logger = logging.getLogger(__name__)

CONFIG = "config.yaml"
MODEL = "model"
SAMPLES = "samples"
LAST_CHECKPOINT = Path("checkpoints") / "last.ckpt"
BEST_CHECKPOINT = Path("checkpoints") / "best.ckpt"

# Number of samples at a validation: enough to hear the classes, but quick to generate.
_MOST_SAMPLES = 12
_LONGEST_SECONDS = 2.0


class RunFolder(Callback):
    """At every validation writes a checkpoint, samples (WAV, PNG, TensorBoard) and the best model.

    This callback must come before the one that averages weights, which swaps the averages in
    before validation and out again after it, and leaves them in when training ends.

    Args:
        folder: run folder.
        config: all settings, as the text of config.yaml.
        keeps: whether to write checkpoints before the end of training.
    """

    def __init__(self, folder: Path, config: str, keeps: bool = True) -> None:
        self.folder = folder
        self.config = config
        self.keeps = keeps
        # Figures of the best validation, until its checkpoint has been written.
        self._best: dict[str, float] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the main settings for TensorBoard's table of runs, before Lightning does."""
        for logger in trainer.loggers if stage == "fit" else ():
            if isinstance(logger, TensorBoardLogger):
                # TensorBoard shows them with the latest value of this figure.
                logger.log_hyperparams(_settings(trainer, pl_module), {"val_bits": math.nan})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the config; before this hook a checkpoint that does not fit has been refused."""
        if trainer.is_global_zero:
            write_text(self.folder / CONFIG, self.config)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the model if it is the best so far, and generate samples."""
        assert isinstance(pl_module, LitModel)
        if trainer.sanity_checking or pl_module.interrupted:
            return
        figures = pl_module.validation_figures()
        if not trainer.is_global_zero:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        bits, step = figures["val_bits"], trainer.global_step
        verdict = ""
        if bits < best_figures(self.folder).get("val_bits", math.inf):
            save_trained(pl_module.network, data.clip_set, self.folder)
            self._best = {"step": step, **figures}
            verdict = f", the best so far: {display(self.folder / MODEL)}"
        _logger.info(
            "step %d: %.3f bits per held-out sample (uniform %.1f, order-0 %.2f)%s",
            step,
            bits,
            figures["uniform_bits"],
            figures["order0_bits"],
            verdict,
        )
        self._write_samples(trainer, pl_module, min(data.typical_seconds(), _LONGEST_SECONDS))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write a checkpoint; the averages have been swapped out again."""
        if trainer.sanity_checking:
            return
        if trainer.state.fn == TrainerFn.FITTING:
            if _saves_by_epoch(trainer):
                return
            self._save(trainer)
        self._keep_best(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write a checkpoint at the end of an epoch, if checkpoints are written there."""
        if _saves_by_epoch(trainer):
            self._save(trainer)
            self._keep_best(trainer)

    def _save(self, trainer: Trainer) -> None:
        if self.keeps:
            trainer.save_checkpoint(self.folder / LAST_CHECKPOINT)

    def _keep_best(self, trainer: Trainer) -> None:
        """Record the checkpoint just written as the best one.

        This is done last: if training is killed before, the resumed run repeats the validation.
        """
        if not (trainer.is_global_zero and self._best):
            return
        if self.keeps:
            last = self.folder / LAST_CHECKPOINT
            with last.open("rb") as file, appearing_whole(self.folder / BEST_CHECKPOINT) as copy:
                shutil.copyfileobj(file, copy)
        write_json(self.folder / BEST, self._best)
        self._best = {}

    def _write_samples(self, trainer: Trainer, module: LitModel, seconds: float) -> None:
        config = module.network.config
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        kinds, frames = _shown(data, module.network)
        samples, seed = sample_count(seconds, config.sample_rate), trainer.global_step
        engine = choose(module.network, streams=len(kinds))
        chunks = []
        for chunk in stream_chunks(engine, list(map(Stream, kinds)), samples, seed, frames=frames):
            if data.stopping:
                return
            chunks.append(chunk)
        waveforms = np.concatenate(chunks, axis=1)
        folder = make_folder(self.folder / SAMPLES / f"step_{trainer.global_step:07d}")
        for kind, waveform in zip(kinds, waveforms, strict=True):
            name = labelling.describe(kind, config.labels)
            stem = labelling.file_stem(kind, config.labels)
            title = f"{name}, step {trainer.global_step}"
            picture = spectrogram_png(waveform, config.sample_rate, title)
            writing.write(folder / f"{stem}.wav", waveform, config.sample_rate)
            write_bytes(folder / f"{stem}.png", picture)
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    _show(logger.experiment, stem, waveform, picture, trainer.global_step, config)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write a checkpoint; the averages have not been left in the module yet."""
        trainer.save_checkpoint(self.folder / LAST_CHECKPOINT)


def _settings(trainer: Trainer, module: Any) -> dict[str, Any]:
    """The main settings of the network, the data and the optimiser."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    network = dataclasses.asdict(module.network.config)
    return {
        **{name: value for name, value in network.items() if isinstance(value, int | float | str)},
        "labels": ", ".join(module.network.config.labels),
        **{name: getattr(data, name) for name in ("crop", "batch_size", "label_dropout", "seed")},
        **{name: getattr(module, name) for name in ("learning_rate", "weight_decay", "optimizer")},
    }


def _saves_by_epoch(trainer: Trainer) -> bool:
    """Whether to write checkpoints at the end of an epoch, from which Lightning can resume."""
    if trainer.check_val_every_n_epoch != 1:
        return False
    return trainer.val_check_interval == 1.0 or not trainer.enable_validation


def save_trained(network: Network, clips: ClipSet, run: Path) -> None:
    """Write the model of a run, and the facts about its training data."""
    save_model(network, run / MODEL)
    save_training(clips.class_counts("train"), clips.settings, run / MODEL)


def _shown(data: Any, network: Network) -> tuple[list[Labels], list[Any] | None]:
    """Labels of the samples of a validation, and their frames, if they are copies of clips."""
    config = network.config
    kinds = one_of_each_class(config.labels)
    if config.sound_features is None:
        return kinds, None
    # For each of the labels the held-out clip that has most of them.
    firsts = {clip: start // data.corpus.hop for clip, start, _ in data.validation.tolist()}
    clips = sorted(firsts)
    labels = {clip: data.clip_set.clips[clip].labels for clip in clips}
    chosen = {max(clips, key=lambda n: len(kind.items() & labels[n].items())) for kind in kinds}
    return (
        [labelling.among(labels[clip], config.labels) for clip in sorted(chosen)],
        [data.corpus.frames(clip)[firsts[clip] :] for clip in sorted(chosen)],
    )


def one_of_each_class(attributes: Attributes) -> list[Labels]:
    """Labels of a few samples that together show every class, if there are not too many."""
    count = max((len(classes) for classes in attributes.values()), default=1)
    return [
        {name: classes[number % len(classes)] for name, classes in attributes.items()}
        for number in range(min(count, _MOST_SAMPLES))
    ]


def _show(
    writer: Any, name: str, waveform: np.ndarray, picture: bytes, step: int, config: Any
) -> None:
    from matplotlib.image import imread

    writer.add_audio(name, waveform[None], step, sample_rate=config.sample_rate)
    pixels = imread(io.BytesIO(picture), format="png")
    writer.add_image(name, pixels[..., :3], step, dataformats="HWC")
