"""The command line itself: Lightning's, with the run folder and fine-tuning."""

import logging
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from jsonargparse import Namespace
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

import dvae.bottlenecks
import dvae.estimators
import dvae.networks
import dvae.priors  # noqa: F401 (short class names resolve to what has been imported)
from dvae.callbacks import Checkpoints, ProgressLines, RunId, Stopped, Stopwatch
from dvae.cli.arguments import add_arguments
from dvae.cli.callbacks import own_callbacks
from dvae.cli.checks import check_fit
from dvae.cli.config_file import MODE, SaveConfig, make_plain
from dvae.cli.finetuning import check_source, take_over
from dvae.cli.loggers import in_run_folder, new_run_id, next_folder, run_loggers
from dvae.cli.precision import Trainer, settle_precision
from dvae.cli.summary import summary, table
from dvae.cli.trainer import check_additions, check_device, check_length, check_trainer_settings
from dvae.data import ImageDataModule
from dvae.doing import doing
from dvae.models import DiscreteVAE
from dvae.models.encoding import write_tokens
from dvae.models.weights import check_weights
from dvae.runs.checkpoints import Checkpoint, SafeCheckpointIO, read_checkpoint
from dvae.runs.files import check_room
from dvae.runs.layout import run_folder
from dvae.runs.resume import find_last, nothing_left, resume_command

__all__ = ["DVAECLI"]

log = logging.getLogger("dvae")


class DVAECLI(LightningCLI):
    """Lightning's command line with the defaults of a discrete VAE.

    On top of Lightning's own keys: `experiment`, `anneal.tau`, `anneal.beta`, `reconstructions`,
    `latents`, `tokens`, `checkpoints`, `nonfinite`, `ema`, `init_from`, `allow_mismatch` and
    `finetune`.
    """

    trainer: pl.Trainer
    model: DiscreteVAE
    datamodule: ImageDataModule

    def __init__(self, args: list[str] | None = None) -> None:
        with ExitStack() as self._at_exit:
            try:
                super().__init__(
                    model_class=DiscreteVAE,
                    datamodule_class=ImageDataModule,
                    trainer_class=Trainer,
                    subclass_mode_model=True,
                    subclass_mode_data=True,
                    seed_everything_default=0,
                    auto_configure_optimizers=False,
                    save_config_callback=SaveConfig,
                    save_config_kwargs={"save_to_log_dir": False},
                    trainer_defaults={"default_root_dir": "runs", "enable_model_summary": False},
                    args=in_run_folder(args),
                )
            except Stopped as stop:
                self._say_how_to_go_on(stop)
                raise
            except SystemExit as error:
                # Lightning's answer to Ctrl-C.
                if isinstance(error.__context__, KeyboardInterrupt):
                    raise KeyboardInterrupt from error
                raise

    @property
    def _given(self) -> Namespace:
        """The settings of the command that runs, as plain values."""
        return self.config[self.config.subcommand]  # type: ignore[no-any-return]

    @property
    def _built(self) -> Namespace:
        """The same with the objects that were built of them."""
        return self.config_init[self.config.subcommand]  # type: ignore[no-any-return]

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Make a parser that raises instead of printing its usage and leaving."""
        kwargs = {"exit_on_error": False, "parser_mode": MODE} | kwargs
        return super().init_parser(**kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add our keys."""
        add_arguments(parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse, and put the checkpoint's path aside until `before_instantiate_classes`.

        Lightning would let the checkpoint's hyperparameters override the user's own flags.
        """
        super().parse_arguments(parser, args)
        self._checkpoint, self._given.ckpt_path = self._given.ckpt_path, None

    @doing("reading the settings and the checkpoint")
    def before_instantiate_classes(self) -> None:
        """Settle what the run is called and where it goes on, so that its config says so."""
        config = self._given
        path = config.ckpt_path = self._checkpoint
        for key in ("trainer", "reconstructions", "latents", "tokens", "finetune", "checkpoints"):
            if not isinstance(config[key], Namespace):
                raise ValueError(
                    f"{key}: settings were expected; got a {type(config[key]).__name__}"
                )
        check_trainer_settings(config.trainer)
        make_plain(config.trainer)
        settle_precision(config.trainer)
        if self.subcommand == "fit":
            config.experiment = self._experiment()
        self._resumed = Checkpoint(path) if path else None
        if path == "last":
            folder = Path(str(config.trainer.default_root_dir)) / self._experiment()
            self._resumed = find_last(folder)
            if self._resumed is None and self.subcommand != "fit":
                raise FileNotFoundError(f"there is no good checkpoint in {folder}")
            config.ckpt_path = str(self._resumed.path) if self._resumed else None
            found = config.ckpt_path or f"nothing in {folder}, so from the start"
            log.info("ckpt_path last: %s", found)

    @doing("building the model")
    def instantiate_classes(self) -> None:
        """Build everything; what torch or Lightning trips over on the way is a bad value."""
        try:
            super().instantiate_classes()
        except (TypeError, RuntimeError, OverflowError, MemoryError, ImportError) as error:
            # Of torch's the first line says it; the others are its own stack.
            reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
            raise ValueError(f"a value of the config cannot be used: {reason}") from error

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Add the loggers and callbacks that every run has."""
        trainer = self._built.trainer
        given, plugins = _as_list(trainer.callbacks), _as_list(trainer.plugins)
        check_additions(given, plugins)
        kwargs["plugins"] = [*plugins, SafeCheckpointIO(self._resumed)]
        if self.subcommand != "fit":
            # Nothing is trained, so there is no run to leave behind.
            self.save_config_callback = None
            if trainer.logger is None:
                kwargs["logger"] = False
            if self.subcommand == "predict" and self._given.trainer.devices == "auto":
                kwargs["devices"] = 1  # shards are written in order
            if trainer.enable_progress_bar is not False:
                kwargs["callbacks"] = [*given, ProgressLines()]
            return super().instantiate_trainer(**kwargs)
        known = RunId.of_checkpoint(self._resumed.content) if self._resumed else None
        run_id = known or new_run_id()
        place = str(trainer.default_root_dir), self._experiment()
        kwargs["logger"] = run_loggers(trainer.logger, *place, run_id)
        if trainer.fast_dev_run:
            # It writes what every run does, and nothing of it stays.
            scratch = tempfile.TemporaryDirectory(prefix="fast_dev_run_")
            kwargs["default_root_dir"] = self._at_exit.enter_context(scratch)
        elif not kwargs["logger"]:
            # Without one Lightning has no other name for the folder of the run.
            kwargs["default_root_dir"] = next_folder(*place)
        check_length(trainer, given)
        kwargs["callbacks"] = [*given, *own_callbacks(self._built, self.model, given, run_id)]
        return super().instantiate_trainer(**kwargs)

    @doing("checking what is to be trained")
    def before_fit(self) -> None:
        """Refuse what cannot work before a file of the run is written."""
        check_device(self._built.trainer, self.trainer)
        self._check_inputs("fit")
        self._step_before = self._resumed and self._resumed.step
        self.model.check_trainer(self.trainer)
        self._take_over()
        check_fit(self.model, self.datamodule, self.trainer, self._resumed)
        if not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            check_room(run_folder(self.trainer).path)

    def before_validate(self) -> None:
        """Refuse what cannot work."""
        self._check_inputs("validate")

    def before_test(self) -> None:
        """Refuse what cannot work."""
        self._check_inputs("test")

    def before_predict(self) -> None:
        """Refuse what cannot work."""
        if not self._given.ckpt_path:
            raise ValueError("predict needs --ckpt_path: codes of untrained weights mean nothing")
        self.datamodule.predict_split = self._given.tokens.split
        self._check_inputs("predict")

    def predict(self, **kwargs: Any) -> None:
        """Write the codes, in place of Lightning's own prediction, and say where they are."""
        assert self._resumed is not None
        self.model.load_state_dict(self._resumed.take()["state_dict"])
        done = write_tokens(
            self.model,
            self.datamodule,
            **self._given.tokens,
            checkpoint=self._resumed.path,
            trainer=self.trainer,
        )
        print(table(done.summary()))

    def after_fit(self) -> None:
        """Test the best checkpoint and say where everything is."""
        if self.trainer.fast_dev_run or self.trainer.interrupted:  # type: ignore[attr-defined]
            return
        # Not the trainer's checkpoint_callback, which may be one of the user's.
        checkpoints, stopwatch = self._own(Checkpoints), self._own(Stopwatch)
        path = checkpoints.best_model_path or None if checkpoints else None
        if self.trainer.global_step == self._step_before:
            resumed = self._given.ckpt_path
            log.warning(nothing_left(self.trainer, resumed))
            path = path or resumed
        if path is not None:
            # Not by the trainer, which would restore the callbacks as well: of averaged weights
            # those that are not averaged would be tested.
            with doing(f"reading {path}"):
                self.model.load_state_dict(read_checkpoint(path)["state_dict"])
        results = self.trainer.test(self.model, datamodule=self.datamodule, verbose=False)
        if self.trainer.is_global_zero:
            found, seconds = results[0] if results else {}, stopwatch.seconds
            chosen = checkpoints.chosen_by if checkpoints else ""
            run = self.trainer, self.model, self.datamodule
            print(summary(*run, found, path, seconds, chosen))

    def _own(self, kind: type[Callback]) -> Any:
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        return next((callback for callback in callbacks if isinstance(callback, kind)), None)

    def _take_over(self) -> None:
        init_from, settings = self._given.init_from, self._built.finetune
        check_source(settings, init_from, self._given.ckpt_path)
        if init_from:
            allow_mismatch = self._given.allow_mismatch
            taken = take_over(self.model, settings, init_from, allow_mismatch)
            print(f"{init_from}: {taken}")
            saver = self._own(SaveConfig)
            if saver is not None:
                # All names, where the lines above have those of parts.
                saver.init_from = f"{init_from}: {taken.listing()}\n"
        elif self.model.objective.prior_alone and not self._given.ckpt_path:
            log.warning(
                "%s trains the prior of a model that knows nothing yet: give a trained one with "
                "--init_from",
                type(self.model.objective).__name__,
            )
        self.model.lr_scale = settings.lr_scale

    def _say_how_to_go_on(self, stop: Stopped) -> None:
        command = resume_command(
            run_folder(self.trainer), stop.checkpoint, bool(self._given.init_from)
        )
        if self.trainer.is_global_zero:
            how = "resume" if stop.checkpoint else "nothing was saved; begin again"
            print(f"\nstopped by {stop}; {how} with\n  {command}", file=sys.stderr, flush=True)
        # A launcher ends all processes with the first one that leaves.
        self.trainer.strategy.barrier()

    def _experiment(self) -> str:
        name = self._given.experiment
        if name:
            return str(name)
        configs = self._given.get("config") or []
        if configs:
            return Path(str(configs[0])).stem
        # No model is built yet.
        return str(self._given.model.class_path).rpartition(".")[2]

    @doing("reading data and checkpoint")
    def _check_inputs(self, stage: str) -> None:
        """Compare model, data and checkpoint."""
        if self._resumed is not None:
            weights, path = self._resumed.content["state_dict"], self._resumed.path
            check_weights(self.model, weights).require(f"{path} is of another model")
        self.model.check_image_shape(self.datamodule.image_shape)
        # A fit ends with a test, whose images had better be found to be damaged before it.
        self.datamodule.setup(None if stage == "fit" else stage)


def _as_list(given: Any) -> list[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, (list, tuple)) else [given]
