"""The LightningModule: training by maximum likelihood, and the figures of validation."""

import math
import time
from copy import deepcopy
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal, Self

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.callbacks import Timer
from torch import Tensor
from torch.func import functional_call

from wavegen.data.corpus import Batch, condition_of
from wavegen.engines.reference_scorer import surprisal
from wavegen.errors import ConfigError, ModelError
from wavegen.models.base import Network
from wavegen.models.config import ModelConfig, WaveNetConfig
from wavegen.models.registry import build, config_from_json
from wavegen.models.serialization import is_model, load_config
from wavegen.training.checkpoints import load_tensors
from wavegen.training.divergence import DIVERGED_BITS, LossWatch
from wavegen.training.muon import Muon
from wavegen.training.precision import cast, training_products
from wavegen.training.private import set_validation_due, validation_seconds
from wavegen.training.restoring import check_checkpoint
from wavegen.utils.distributed import largest

# Keys of checkpoints for the config of the network, and for the minutes of training.
_NETWORK, _MINUTES = "network", "minutes"
# Training between two validations takes at least this many times as long as the last validation.
_TRAINING_PER_VALIDATION = 4
# Processes that train together compare their clocks once in this many steps, since each time
# costs a message.
_TOGETHER = 10


class LitModel(LightningModule):
    """Trains a network by maximum likelihood.

    Args:
        network: config of any registered network, which gets new weights; or a network, which is
            trained further.
        learning_rate: highest learning rate.
        weight_decay: decay of matrices only. Without enough of it a wide network with linear gates
            diverges after some thousand steps: each layer multiplies its inputs, and matrices grow.
        warmup_steps: steps over which the learning rate rises linearly. Then it falls as a cosine
            to 0 at the end of training, which is a step, an epoch or a time.
        optimizer: `muon` trains the hidden matrices of the network by Muon and all other weights
            by AdamW; `adamw` trains all weights by AdamW.
        fused: compute each layer by a few Triton kernels, on NVIDIA GPUs. It is off by default,
            since no GPU has timed it.
    """

    def __init__(
        self,
        network: ModelConfig | Network,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.1,
        warmup_steps: int = 100,
        optimizer: Literal["muon", "adamw"] = "muon",
        fused: bool = False,
    ) -> None:
        super().__init__()
        if not learning_rate > 0:
            raise ConfigError(f"--model.learning_rate is {learning_rate}: it must be above 0")
        if not weight_decay >= 0:
            raise ConfigError(f"--model.weight_decay is {weight_decay}: it must be 0 or more")
        if isinstance(network, Network):
            # A loaded network is frozen.
            self.network = network.requires_grad_(True).train()
            if fused:
                network.fuse()
        else:
            self.network = build(network, fused)
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.optimizer = optimizer
        self.validation_totals = torch.zeros(2, dtype=torch.float64)
        self.validated_step = -1
        self._began = self._validated = time.monotonic()
        # Minutes of training before it was resumed, and seconds of the last validation.
        self._minutes_before = self._validation_took = 0.0
        self._schedule: torch.optim.lr_scheduler.LambdaLR | None = None
        # By the clocks: the share of the time that has passed, and whether a validation is due.
        self._time_share, self._due = 0.0, False
        self._watch = LossWatch(math.log2(self.network.config.codec.codes) + DIVERGED_BITS)
        # Whether a resumed run has been loaded completely.
        self.ready = False
        # Whether a signal has ended validation before its last batch.
        self.interrupted = False

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the config of the network, which `load_from_checkpoint` needs."""
        checkpoint[_NETWORK] = self.network.config.to_json()
        checkpoint[_MINUTES] = self._minutes()

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls, checkpoint_path: str | Path, map_location: Any = "cpu", **options: Any
    ) -> Self:
        """Make a module with the network of a checkpoint, with averaged weights if it has them.

        Args:
            checkpoint_path: a checkpoint that training this module has written.
            map_location: device of the weights.
            options: arguments of this class besides `network`.

        Raises:
            ModelError: the checkpoint is missing or damaged, or its network is not known.
        """
        path = Path(checkpoint_path)
        checkpoint = load_tensors(path, map_location)
        text = checkpoint.get(_NETWORK)
        beside = path.parent.parent / "model"
        if text is None and not is_model(beside):
            raise ModelError(
                f"{path}: the checkpoint does not hold the config of its network, and {beside} "
                "holds no model; leave the checkpoint in its run folder"
            )
        try:
            config = load_config(beside) if text is None else config_from_json(str(text))
            module = cls(config, **options)
            module.load_state_dict(checkpoint["state_dict"])
        except (ConfigError, RuntimeError, LookupError, TypeError, AttributeError) as error:
            reason = shorten(str(error), 200, placeholder=" ...")
            raise ModelError(f"{path}: not a checkpoint of such a network ({reason})") from error
        return module.to(map_location)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Raise `ValueError` if this training cannot continue from the checkpoint."""
        check_checkpoint(checkpoint, self)
        # Checkpoints of earlier versions have no minutes.
        minutes = checkpoint.get(_MINUTES, 0.0)
        if not (isinstance(minutes, float) and 0 <= minutes < math.inf):
            raise ValueError(f"its '{_MINUTES}' is not what this training would write")
        self._minutes_before = minutes

    def on_train_start(self) -> None:
        """Remember that loading has ended."""
        self.ready = True
        self._look_at_clocks()

    def on_fit_start(self) -> None:
        """Start the clocks of the logged minutes and of the next validation."""
        self._began = self._validated = time.monotonic()

    def forward(self, batch: Batch) -> Tensor:
        """Logits (T, B, Q) of every target of a batch, time first."""
        bias = self.network.conditioning(condition_of(batch))
        inputs, first = batch["inputs"], batch.get("first")
        return self.network.predict(inputs, bias, batch["beginning"], first).transpose(0, 1)

    def loss(self, batch: Batch) -> Tensor:
        """Mean nats over every sample that the batch predicts, without padding and history."""
        device = batch["targets"].device.type
        weights = {}
        if torch.is_autocast_enabled(device):
            # Gradients of embeddings are summed row by row, so embeddings stay in float32.
            products = {
                name: weight for name, weight in self.named_parameters() if "embedding" not in name
            }
            in_half = cast(tuple(products.values()), torch.get_autocast_dtype(device))
            weights = dict(zip(products, in_half, strict=True))
        logits = functional_call(self, weights, (batch,), tie_weights=False)
        # Flattening does not copy.
        targets = batch["targets"].t().flatten()
        return self.network.distribution.loss(logits.flatten(0, 1), targets)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """See `loss`."""
        with training_products():
            loss = self.loss(batch)
        self.log("train_bits", loss.detach() / math.log(2))
        if self._schedule is not None:
            self.log("learning_rate", self._schedule.get_last_lr()[0])
        self._watch.look(loss, batch["clips"])
        return loss

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute gradients with the same precision of products as the loss."""
        with training_products():
            super().backward(loss, *args, **kwargs)

    def on_after_backward(self) -> None:
        """Stop if training has diverged, before the weights become NaN.

        Raises:
            ConfigError: the loss is not finite, or stays above that of guessing.
        """
        finite, low = self._watch.seen()
        if not finite:
            clips = self._watch.clips
            data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
            names = ", ".join(sorted({data.corpus.store.names[clip] for clip in clips.tolist()}))
            raise ConfigError(
                f"training has diverged: the loss is not finite at step "
                f"{self.trainer.global_step}; lower --model.learning_rate, or look at the clips "
                f"of its batch: {names}"
            )
        if not low:
            guessing = math.log2(self.network.config.codec.codes)
            raise ConfigError(
                f"training has diverged: by step {self.trainer.global_step} the average loss is "
                f"more than {DIVERGED_BITS:.0f} bit above guessing, which is {guessing:.1f}; "
                "lower --model.learning_rate, or raise --model.weight_decay"
            )

    def on_train_batch_end(self, *_: object) -> None:
        """Validate, or end the training, when its time has come."""
        trainer: Any = self.trainer
        if self._time_share >= 1:
            trainer.should_stop = True
        # Lightning would ask the clock of each process, and they may differ by a step.
        if validation_seconds(trainer) is not None:
            set_validation_due(trainer, self._due)

    def on_validation_epoch_start(self) -> None:
        """Start the sums of bits and samples over the validation split."""
        self._validation_began = time.monotonic()
        self.validation_totals = torch.zeros(2, dtype=torch.float64, device=self.device)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add the bits and samples of a batch, in float32 whatever the precision of training."""
        network = self.network
        if network.dtype != torch.float32:
            # The saved model computes in float32 too.
            network = deepcopy(network).float()
        with torch.autocast(self.device.type, enabled=False):
            condition, first = condition_of(batch), batch.get("first")
            bits = surprisal(
                network, batch["inputs"], batch["targets"], condition, batch["beginning"], first
            )
        samples = (batch["targets"] >= 0).sum()
        self.validation_totals += torch.stack([bits.sum(), samples.double()])

    def validation_figures(self) -> dict[str, float]:
        """Bits per sample over all samples and ranks, and its two points of comparison.

        Raises:
            ConfigError: training has diverged.
        """
        totals = self.trainer.strategy.reduce(self.validation_totals.clone(), reduce_op="sum")
        bits, samples = totals.tolist()
        if not math.isfinite(bits):
            raise ConfigError("training has diverged: lower --model.learning_rate")
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        return {
            "val_bits": bits / samples,
            "uniform_bits": math.log2(self.network.config.codec.codes),
            "order0_bits": data.order0_bits,
        }

    def on_validation_epoch_end(self) -> None:
        """Log held-out bits per sample and their points of comparison."""
        if self.trainer.sanity_checking:
            return
        if self.interrupted:
            # Callbacks that watch the figure must find one, which must not be the best.
            if "val_bits" not in self.trainer.callback_metrics:
                self.log("val_bits", math.inf, logger=False)
            return
        self._validated, self._due = time.monotonic(), False
        self._validation_took = self._validated - self._validation_began
        self.validated_step = self.trainer.global_step
        for name, figure in self.validation_figures().items():
            self.log(name, figure, prog_bar=name == "val_bits")
        self.log("minutes", self._minutes())

    def _minutes(self) -> float:
        """Minutes of training so far, including those before it was resumed."""
        return self._minutes_before + (time.monotonic() - self._began) / 60

    def configure_optimizers(self) -> Any:
        """Muon and AdamW, or AdamW alone, with a warm-up and a cosine schedule."""
        groups: list[dict[str, Any]] = [
            {"params": [], "orthogonal": True},
            {"params": []},
            {"params": [], "weight_decay": 0.0},
        ]
        hidden = self.network.hidden_matrices() if self.optimizer == "muon" else set()
        for name, parameter in self.network.named_parameters():
            kind = 2 if parameter.ndim < 2 else 0 if name in hidden else 1
            groups[kind]["params"].append(parameter)
        optimizer = Muon(
            [group for group in groups if group["params"]],
            lr=self.learning_rate,
            weight_decay=self.weight_decay,
            betas=(0.9, 0.99),
            foreach=True,
        )
        factor = self._learning_rate_factor
        schedule = self._schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        scheduler = {"scheduler": schedule, "interval": "step", "name": "learning_rate"}
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Set the learning rate of the next step, which may depend on the clock."""
        if self.trainer.world_size == 1 or self.trainer.global_step % _TOGETHER == 0:
            self._look_at_clocks()
        super().lr_scheduler_step(scheduler, metric)

    def _learning_rate_factor(self, step: int) -> float:
        warmup = min(1.0, (step + 1) / max(1, self.warmup_steps))
        return warmup * 0.5 * (1 + math.cos(math.pi * self.progress(step)))

    def progress(self, step: int) -> float:
        """Share of the training that is done, by the limit that will be reached first."""
        if step == 0:
            # A resumed run does not know its place in the data yet.
            return 0.0
        # Without a limit on steps the number of steps is infinite, and the share is 0.
        progress = step / self.trainer.estimated_stepping_batches
        return min(max(progress, self._time_share), 1.0)

    def _look_at_clocks(self) -> None:
        """Read the clock of the first process, so that all processes act alike."""
        trainer: Any = self.trainer
        timers = [each for each in trainer.callbacks if isinstance(each, Timer)]
        left = [(each.time_elapsed(), each.time_remaining()) for each in timers]
        shares = [elapsed / max(elapsed + rest, 1e-9) for elapsed, rest in left if rest is not None]
        every = validation_seconds(trainer)
        due = False
        if every is not None:
            # No validation shortly before the end of training, which is validated anyway.
            late = all(rest is None or rest > every / 2 for _, rest in left)
            pause = max(every, _TRAINING_PER_VALIDATION * self._validation_took)
            due = late and time.monotonic() - self._validated >= pause
        if shares or every is not None:
            self._time_share, validate = largest([max(shares, default=0.0), due])
            self._due = bool(validate)


class LitWaveNet(LitModel):
    """`LitModel` for a WaveNet; the command line has an option for each field of its config.

    Args:
        network: the config; or a `WaveNet`, which is trained further.
        **options: other arguments of `LitModel`.
    """

    def __init__(self, network: WaveNetConfig, **options: Any) -> None:
        super().__init__(network, **options)
