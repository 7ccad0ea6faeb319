"""`wavegen train`: a LightningCLI whose defaults follow from the data and the device."""

import logging
import sys
import warnings
from argparse import ArgumentError
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint, Timer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from wavegen.clips import summary
from wavegen.data import AudioDataModule
from wavegen.defaults import suggest
from wavegen.errors import ConfigError
from wavegen.files import make_folder, output_errors, write_text
from wavegen.runs import LAST_CHECKPOINT, RunFolder, WholeCheckpoints, find_checkpoint
from wavegen.training import ExponentialMovingAverage, LitWaveNet

CONFIG = "config.yaml"


class TrainCLI(LightningCLI):
    """Parses twice: once to learn where the data is, then with defaults that follow from it."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Options of the run beside those of model, data and trainer."""
        parser.add_argument("folder", nargs="?", help="recordings to train on (data.folder)")
        parser.add_argument(
            "--run", type=str, help="run folder (default: runs/ and the data's name)"
        )
        parser.add_argument("--resume", type=str, metavar="RUN", help="go on with this run")
        parser.add_argument(
            "--ema_decay", type=float, default=0.999, help="of the averaged weights"
        )
        # Not required where a positional or a config names it.
        parser.set_defaults({"data.folder": ""})

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, look at the data, parse again with defaults for this data and device."""
        options = sys.argv[1:]
        given = self._parse(parser, options)
        self.checkpoint = None
        if given.resume is not None:
            self.checkpoint = find_checkpoint(Path(given.resume))
            # First, so that what is said now overrides what was said then.
            options = [
                "--config",
                str(Path(given.resume) / CONFIG),
                *options,
                "--run",
                given.resume,
            ]
        if given.folder is not None:
            options = [*options, "--data.folder", given.folder]
        given = self._parse(parser, options)
        if not given.data.folder:
            raise ConfigError("name the folder of recordings: wavegen train FOLDER")
        clips = AudioDataModule(**given.data.as_dict()).clip_set
        rate = given.data.sample_rate or clips.commonest_sample_rate()
        gpu = torch.cuda.is_available() and given.trainer.accelerator != "cpu"
        # Without matrix units for it, a CPU is slower in bfloat16 than in float32.
        bfloat16 = torch.cuda.is_bf16_supported() if gpu else torch.cpu._is_amx_tile_supported()
        defaults = suggest(clips, rate, gpu, bfloat16)
        parser.set_defaults({**defaults, **_limits(given.trainer, defaults["trainer.max_steps"])})
        self.config = self._parse(parser, options)
        self.clip_set = clips
        self.run_folder = _run_folder(self.config.run, self.config.data.folder, given.resume)

    @staticmethod
    def _parse(parser: LightningArgumentParser, options: list[str]) -> Any:
        try:
            return parser.parse_args(options)
        except ArgumentError as error:
            raise ConfigError(f"{error} (see 'wavegen train --help')") from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer with what a run folder needs beside what the user asked for."""
        # Whatever is wrong with the data or the options shows before anything is written.
        self.datamodule.clip_set = self.clip_set
        self.datamodule.decode()
        asked = self.config_init.trainer
        kwargs["default_root_dir"] = str(self.run_folder)
        if asked.logger in (None, True):
            kwargs["logger"] = [
                CSVLogger(self.run_folder, name="", version=""),
                TensorBoardLogger(self.run_folder, name="", version="tensorboard"),
            ]
        kwargs["plugins"] = [*(asked.plugins or []), WholeCheckpoints()]
        asked_callbacks = [] if asked.callbacks is None else asked.callbacks
        if not isinstance(asked_callbacks, list):
            asked_callbacks = [asked_callbacks]
        kwargs["callbacks"] = [
            *asked_callbacks,
            *([] if asked.logger is False else [LearningRateMonitor("step")]),
            RunFolder(self.run_folder),
            ExponentialMovingAverage(self.config_init.ema_decay),
            ModelCheckpoint(
                self.run_folder / LAST_CHECKPOINT.parent,
                filename="best",
                monitor="val_bits",
                save_last=True,
                enable_version_counter=False,
            ),
        ]
        make_folder(self.run_folder)
        return super().instantiate_trainer(**kwargs)


def train(options: list[str]) -> Path:
    """Train on a folder of recordings, or go on with a run.

    Args:
        options: `FOLDER`, or `--resume RUN`, and options of LightningCLI such as
            `--trainer.max_steps 1000`.

    Returns:
        The run folder.

    Raises:
        WavegenError: as its message says.
    """
    # Lightning's own remarks, on tips and on devices that are not there, drown ours.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    for noise in ("Experiment logs directory", ".*does not have many workers", ".*LeafSpec"):
        warnings.filterwarnings("ignore", message=noise)
    # LightningCLI warns when it is handed options that are not the process's own.
    sys.argv = ["wavegen train", *options]
    cli = TrainCLI(
        LitWaveNet,
        AudioDataModule,
        trainer_defaults={
            # The data module gives every rank crops of its own.
            "use_distributed_sampler": False,
            "num_sanity_val_steps": 0,
            "gradient_clip_val": 1.0,
            "log_every_n_steps": 20,
            "enable_model_summary": False,
        },
        save_config_callback=None,
        seed_everything_default=0,
        run=False,
        auto_configure_optimizers=False,
        parser_kwargs={"prog": "wavegen train", "exit_on_error": False},
    )
    _keep_metrics(cli.run_folder)
    write_text(cli.run_folder / CONFIG, cli.parser.dump(cli.config, skip_none=False))
    print(summary(cli.datamodule.clip_set, cli.datamodule.sample_rate))
    print(describe(cli))
    cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=cli.checkpoint)
    if cli.trainer.interrupted:
        return cli.run_folder
    if cli.model.validated_step != cli.trainer.global_step:
        # The limit fell between two validations: the last steps count too.
        cli.trainer.validate(cli.model, cli.datamodule, verbose=False)
    return cli.run_folder


def describe(cli: TrainCLI) -> str:
    """What will be trained, and where, in a few lines."""
    network, data, trainer = cli.model.network, cli.datamodule, cli.trainer
    parameters = sum(p.numel() for p in network.parameters())
    limit = (
        f"{trainer.max_steps} steps" if trainer.max_steps > 0 else "to its limit of time or epochs"
    )
    return (
        f"{network.config.describe()}\n"
        f"training  {parameters:,} parameters, {data.batch_size} crops of {data.crop} samples a "
        f"step, {limit}, in {trainer.precision} on {trainer.strategy.root_device}\n"
        f"run       {cli.run_folder}"
    )


def _limits(asked: Any, steps: int) -> dict[str, Any]:
    """How long to train, where the user has not said, and how often to validate."""
    if asked.max_time is not None:
        seconds = Timer(asked.max_time).time_remaining() or 0.0
        return {
            "trainer.max_steps": -1,
            "trainer.check_val_every_n_epoch": None,
            "trainer.val_check_interval": _clock(max(1, round(seconds / 8))),
        }
    if asked.max_epochs is not None:
        return {"trainer.max_steps": -1}
    steps = asked.max_steps if asked.max_steps > 0 else steps
    return {
        "trainer.check_val_every_n_epoch": None,
        "trainer.val_check_interval": max(1, steps // 10),
    }


def _clock(seconds: int) -> str:
    """Seconds as Lightning's days:hours:minutes:seconds."""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days:02d}:{hours:02d}:{minutes:02d}:{seconds:02d}"


def _run_folder(run: str | None, folder: str, resume: str | None) -> Path:
    """Where the run will be; never a folder that holds another run."""
    if run is None:
        first = path = Path("runs") / (Path(folder).resolve().name or "run")
        number = 2
        while path.exists():
            path = first.with_name(f"{first.name}-{number}")
            number += 1
        return path
    path = Path(run)
    if resume is None and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ConfigError(
            f"{path}: already holds files; choose another --run, or go on with --resume {path}"
        )
    return path


def _keep_metrics(run: Path) -> None:
    """The logger begins a new file; what was logged before a resumption stays beside it."""
    metrics = run / "metrics.csv"
    if metrics.exists():
        with output_errors(metrics):
            metrics.replace(run / f"metrics-{len(list(run.glob('metrics*.csv')))}.csv")
