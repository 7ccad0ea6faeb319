"""Training on a folder of recordings, from options to a run folder."""

import logging
import os
import warnings
from contextlib import ExitStack
from pathlib import Path
from textwrap import shorten

import torch
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from wavegen.data.summary import summary
from wavegen.errors import ConfigError, DataError, ModelError, Stopped
from wavegen.models.serialization import is_model
from wavegen.training.data_module import AudioDataModule
from wavegen.training.lightning_module import LitWaveNet
from wavegen.training.run_folder import (
    CONFIG,
    save_trained,
)
from wavegen.training.run_folders import (
    only_training,
    record_contents,
)
from wavegen.training.trainer_cli import TrainCLI
from wavegen.utils.files import write_text
from wavegen.utils.text import display, quoted

_logger = logging.getLogger(__name__)

# Warnings of Lightning that do not apply: the run folder is written here, and the data module can
# resume within an epoch.
_NOISE = (
    "Experiment logs directory",
    "Checkpoint directory",
    "You're resuming from a checkpoint that ended before the epoch ended",
    "The number of training batches",
    # Earlier versions of wavegen had Lightning keep the checkpoints.
    "Be aware that when using `ckpt_path`",
    ".*does not have many workers",
    ".*sync_dist",
    ".*isinstance.treespec",
    ".*deprecated in v4",
)


def train(options: list[str]) -> Path:
    """Train on a folder of recordings, or resume a run.

    Args:
        options: `FOLDER`, or `--resume RUN`, and options of LightningCLI such as
            `--trainer.max_steps 1000`.

    Returns:
        The run folder.

    Raises:
        WavegenError: the data or an option cannot be used.
        Stopped: Ctrl-C or SIGTERM has ended training; the run can be resumed.
    """
    # Lightning's tips, and its messages about missing devices, would hide ours.
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    for message in _NOISE:
        warnings.filterwarnings("ignore", message=message)
    with ExitStack() as held:
        return _train(options, held)


def _train(options: list[str], held: ExitStack) -> Path:
    try:
        cli = TrainCLI(
            LitWaveNet,
            AudioDataModule,
            trainer_defaults={
                # The data module gives every rank its own crops.
                "use_distributed_sampler": False,
                "num_sanity_val_steps": 0,
                "gradient_clip_val": 1.0,
                "log_every_n_steps": 20,
                "enable_model_summary": False,
            },
            save_config_callback=None,
            seed_everything_default=0,
            run=False,
            args=options,
            auto_configure_optimizers=False,
            parser_kwargs={
                "prog": "wavegen train",
                "description": "Train a network on a folder of recordings.",
                "exit_on_error": False,
                "allow_abbrev": False,
            },
        )
        if cli.trainer.is_global_zero:
            _begin(cli, held)
        _fit(cli)
        if cli.signals.received:
            raise Stopped(cli.signals.received, f"; resume by --resume {quoted(cli.run_folder)}")
        # A run that had reached its limit before has been validated with averaged weights.
        trained = cli.model.ready or not is_model(cli.run_folder)
        validated = cli.model.validated_step == cli.trainer.global_step
        if cli.trainer.enable_validation and trained and not validated:
            # Validate the last steps, since the limit came between two validations.
            cli.trainer.validate(cli.model, cli.datamodule, verbose=False)
    except (MisconfigurationException, ModuleNotFoundError, ValueError) as error:
        raise ConfigError(f"{error} (see 'wavegen train --help')") from error
    except DataError as error:
        # An error in a worker process comes with the traceback of that process.
        reason = str(error).rstrip().rsplit("\n", 1)[-1]
        raise DataError(reason.removeprefix("wavegen.errors.DataError: ")) from error
    except torch.OutOfMemoryError as error:
        raise ConfigError("out of GPU memory: take a smaller --data.batch_size") from error
    except SystemExit as stopped:
        # Lightning ends an interrupted training by SystemExit.
        if stopped.code != 1:
            raise
        raise KeyboardInterrupt from None
    if cli.trainer.is_global_zero:
        _end(cli)
    return cli.run_folder


def _fit(cli: TrainCLI) -> None:
    try:
        cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=cli.checkpoint)
    except (RuntimeError, LookupError, TypeError, AttributeError, ValueError) as error:
        if cli.checkpoint is None or cli.model.ready or isinstance(error, torch.OutOfMemoryError):
            raise
        # Lightning does not check the contents of a checkpoint.
        reason = shorten(str(error), 200, placeholder=" ...")
        raise ModelError(
            f"{cli.checkpoint}: cannot resume from it ({reason}); resume with the network and the "
            "version that wrote it, or train anew"
        ) from error


def _begin(cli: TrainCLI, held: ExitStack) -> None:
    """Make and lock the run folder, and print what will be trained."""
    run = cli.run_folder
    held.enter_context(only_training(run, fresh=cli.config.resume is None))
    if cli.checkpoint is None:
        # From now on the run can be resumed, even if it is killed before its first checkpoint.
        write_text(run / CONFIG, cli.settings)
    record_contents(run, cli.datamodule.contents())

    network, data, trainer = cli.model.network, cli.datamodule, cli.trainer
    _logger.info("%s", summary(data.clip_set, data.decode().sample_rate))
    for remark in data.remarks():
        _logger.info("note: %s", display(remark))
    parameters = sum(p.numel() for p in network.parameters())
    limit = f"{trainer.max_steps} steps" if trainer.max_steps > 0 else "to a time or an epoch"
    _logger.info(
        "%s",
        f"{network.config.describe()}\n"
        f"training  {parameters:,} parameters, {data.batch_size} crops of {data.crop} samples a "
        f"step, {limit}, in {trainer.precision} on {trainer.strategy.root_device}\n"
        f"run       {display(run)}",
    )


def _end(cli: TrainCLI) -> None:
    """Write a model if there is none, and print where it is."""
    run = cli.run_folder
    if not is_model(run):
        # Without a validation there is no best model, so the last one is kept.
        save_trained(cli.model.network, cli.datamodule.clip_set, run)
    if cli.checkpoint is not None and not cli.model.ready:
        _logger.info(
            "%s: the run had reached its limit already, so nothing was trained; raise --steps, "
            "--epochs or --time to train it further",
            display(run),
        )
        return
    command, more = "generate", ""
    if cli.model.network.config.sound_features is not None:
        command, more = "resynthesize", " RECORDINGS"
    _logger.info("done: %s", display(run))
    _logger.info("%s: wavegen %s %s%s --out out/", command, command, quoted(run), more)
