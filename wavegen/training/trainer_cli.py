"""Options of a training, and its Trainer; defaults depend on the data and the device."""

from argparse import ArgumentError
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Checkpoint, ProgressBar, Timer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import TensorBoardLogger

from wavegen.data.shards import is_remote
from wavegen.errors import ConfigError
from wavegen.training.averaging import ExponentialMovingAverage
from wavegen.training.checkpoints import WholeCheckpoints
from wavegen.training.data_module import AudioDataModule
from wavegen.training.defaults import suggest
from wavegen.training.interrupts import StopOnSignal
from wavegen.training.limits import Clock, check_limits, check_nodes, limits_of
from wavegen.training.metrics import MetricsFile
from wavegen.training.openmp import SharedCores
from wavegen.training.private import cpu_has_bfloat16
from wavegen.training.progress import RunProgress
from wavegen.training.run_config import read_config
from wavegen.training.run_folder import (
    LAST_CHECKPOINT,
    RunFolder,
)
from wavegen.training.run_folders import (
    check_contents,
    choose_run,
    find_checkpoint,
)
from wavegen.training.run_page import RunPage
from wavegen.utils.durations import days_first, seconds_of


class TrainCLI(LightningCLI):
    """Parses twice: first to find the data, then with defaults that depend on it."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options of the run, besides those of model, data and trainer."""
        parser.add_argument("folder", nargs="?", help="recordings to train on (data.folder)")
        parser.add_argument("--run", type=str, help="run folder (runs/DATA)")
        parser.add_argument("--resume", type=str, metavar="RUN", help="resume this run")
        parser.add_argument(
            "--ema_decay", type=float, default=0.999, help="decay of averaged weights; 0 is none"
        )
        parser.add_argument(
            "--accept_changed_data",
            action="store_true",
            help="resume a run even if its recordings have changed",
        )
        # Not required by the parser, since a positional argument or a config may name it.
        parser.set_defaults({"data.folder": ""})

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, find the data, and parse again with defaults for this data and device.

        A value comes from the first of these that has one: the options and `--config` files, of
        which later ones take precedence; the config of a resumed run; the defaults for data and
        device; the defaults of the classes.
        """
        options = [_found_recipe(option) for option in args]
        # `--print_config` prints and exits, and only the last turn knows the values.
        quiet = [option for option in options if not option.startswith("--print_config")]
        given = _parse(parser, quiet)
        self.checkpoint = None
        extra = []
        if given.resume is not None:
            self.checkpoint = find_checkpoint(Path(given.resume))
            if given.run not in (None, given.resume):
                raise ConfigError(
                    f"--run {given.run}: a run is resumed in its folder: leave it out"
                )
            # Without defaults, so that only options that are given now count.
            anew = parser.parse_args(["--data.folder=", *quiet], defaults=False)
            config = ["--config", read_config(Path(given.resume), set(anew.keys(branches=True)))]
            # The config of the run comes first, so that the present options override it.
            options, quiet = [*config, *options], [*config, *quiet]
            extra += ["--run", given.resume]
        if given.folder is not None:
            extra += ["--data.folder", given.folder]
        given = _parse(parser, [*quiet, *extra])
        if not given.data.folder:
            raise ConfigError("name the folder of recordings: wavegen train FOLDER")
        check_limits(given.trainer)
        self.run_folder = choose_run(given.run, given.data.folder, given.resume)

        self.decoded = AudioDataModule(**given.data.as_dict())
        if len(quiet) == len(options):
            self.decoded.decode()
        # With `--print_config` the headers of the recordings are enough.
        rate = self.decoded.rate()
        gpu = torch.cuda.is_available() and given.trainer.accelerator != "cpu"
        bfloat16 = (
            torch.cuda.is_bf16_supported(including_emulation=False) if gpu else cpu_has_bfloat16()
        )
        defaults = suggest(self.decoded.clip_set, rate, gpu, bfloat16)
        defaults["model.network.features"] = features = self.decoded.feature_definitions()
        # Runs from before these waves are resumed without them.
        if given.resume is None and any(each["kind"] == "pitch" for each in features):
            defaults["model.network.pitch_waves"] = 5
        parser.set_defaults({**defaults, **limits_of(given.trainer, defaults["trainer.max_steps"])})
        self.config = _parse(parser, [*options, *extra])

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Make the Trainer, with the callbacks of a run folder and the settings of the user."""
        # Errors in the data or the options appear here, before anything is written.
        self.datamodule.adopt(self.decoded)
        self.datamodule.match(self.model.network)
        if self.config.resume is not None and not self.config.accept_changed_data:
            check_contents(self.run_folder, self.datamodule.contents())
        asked = self.config_init.trainer
        run = self.run_folder
        self.signals = StopOnSignal()
        # Options about one run only are left out of a config that other runs may start from.
        config = self.config.clone()
        config.folder = config.run = config.resume = None
        config.accept_changed_data = False
        # The path is absolute, so that a run can be resumed from any folder.
        for name in ("folder", "store"):
            place = config.data[name]
            if place and not is_remote(str(place)):
                config.data[name] = str(Path(place).absolute())
        self.settings = self.parser.dump(config, skip_none=False)
        theirs = _as_list(asked.callbacks)
        keeps = asked.enable_checkpointing is not False
        callbacks = [*theirs, self.signals, SharedCores(), RunFolder(run, self.settings, keeps)]
        # Weights in 16 bits are too coarse for the small steps of an average.
        if self.config_init.ema_decay and not str(asked.precision).endswith("16-true"):
            callbacks += [ExponentialMovingAverage(self.config_init.ema_decay)]
        kinds = tuple(map(type, callbacks))
        bar = any(issubclass(kind, ProgressBar) for kind in kinds)
        if asked.enable_progress_bar is not False and not bar:
            callbacks += [RunProgress()]
        if asked.max_time is not None and Timer not in kinds:
            callbacks += [Clock(asked.max_time)]
        if asked.logger is not False:
            callbacks += [RunPage(run)]
        if asked.logger in (None, True):
            kwargs["logger"] = [
                MetricsFile(run),
                TensorBoardLogger(run, name="tensorboard", version=""),
            ]
        # `RunFolder` writes the checkpoints, so Lightning's own are switched off.
        others = [callback for callback in theirs if isinstance(callback, Checkpoint)]
        kwargs["enable_checkpointing"] = keeps and bool(others)
        folders = [getattr(callback, "dirpath", None) for callback in others]
        checkpoints = WholeCheckpoints(run / LAST_CHECKPOINT.parent, *filter(None, folders))
        kwargs["plugins"] = [*_as_list(asked.plugins), checkpoints]
        kwargs["callbacks"] = callbacks
        kwargs["default_root_dir"] = str(run)
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except TypeError as error:
            # Lightning raises this for a value that it cannot use, such as of `--trainer.devices`.
            raise ConfigError(f"{error} (see 'wavegen train --help')") from error
        check_nodes(trainer)
        return trainer


def _parse(parser: LightningArgumentParser, options: list[str]) -> Any:
    """Parse options and the files that they name, with durations converted for Lightning."""
    try:
        config = parser.parse_args(options)
    except ArgumentError as error:
        raise ConfigError(f"{error} (see 'wavegen train --help')") from error
    for name in ("max_time", "val_check_interval"):
        if isinstance(duration := config.trainer[name], str):
            config.trainer[name] = _duration(duration, name)
    return config


def _duration(text: str, name: str) -> str:
    try:
        return days_first(seconds_of(text))
    except ValueError:
        short = "--time or " if name == "max_time" else ""
        raise ConfigError(
            f"{short}--trainer.{name} is {text}: write a duration such as 90 (seconds), 10m, "
            "1h30m or 1:30:00"
        ) from None


def _found_recipe(option: str) -> str:
    """Replace the name of a recipe of the package, in `--config=NAME`, by its file."""
    name, _, value = option.partition("=")
    file = Path(__file__).parents[1] / "recipes" / f"{value}.yaml"
    if name == "--config" and not Path(value).is_file() and file.is_file():
        return f"{name}={file}"
    return option


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
