"""Random combinations of parts keep the laws of a run, and each of the laws can fail."""

import logging
from pathlib import Path

import pytest
import torch

import dvae.models.base as model_module
from benchmarks.fuzz import Failure, joint_case
from benchmarks.fuzz.joint import AXES, described, draw_joint, simpler, with_values
from benchmarks.fuzz.settings import config_of, run_steps, schedules_of, steps_after
from dvae.bottlenecks import VQ, CategoricalBottleneck, CategoricalPosterior
from dvae.callbacks import Anneal, Checkpoints, RandomState, SafeCheckpointIO
from dvae.cli import checks
from dvae.likelihoods import Bernoulli
from dvae.models import DiscreteVAE, encoding
from dvae.models import evaluation as evaluation_module

# What a library says of itself is no law of these; a traceback is.
pytestmark = pytest.mark.filterwarnings("ignore")

SIMPLEST = {axis: values[0] for axis, values in AXES.items()}
# Of the first joints some of those that take two to three seconds, and others.
QUICK = (17, 79, 86, 109, 115, 128, 134, 135, 143, 165)
SLOW = (0, 1, 2, 3, 5, 6, 7, 9, 10, 11, 12, 14, 15, 18, 19, 20, 22, 24, 26, 28)


@pytest.mark.parametrize("number", QUICK)
def test_a_joint_keeps_the_laws(number):
    assert joint_case(number) in ("resumed", "ended", "refused")


@pytest.mark.slow
@pytest.mark.parametrize("number", SLOW)
def test_another_joint_keeps_the_laws(number):
    assert joint_case(number) in ("resumed", "ended", "refused")


def test_averaged_weights_are_what_is_tested():
    # Lightning restores those that are not averaged where it finds the callback that averages.
    assert joint_case(1, with_values(SIMPLEST, ["callback=EMA", "resume=no"])) == "ended"


def test_a_joint_is_drawn_from_its_number_and_told_by_its_values():
    for number in range(200):
        joint = draw_joint(number)
        assert joint == draw_joint(number)
        words = [word.strip("'") for word in described(joint).split(" '")]
        assert set(joint) == set(AXES) and words
        assert all(joint[axis] in values for axis, values in AXES.items())
        assert all(other[axis] == AXES[axis][0] for axis, other in simpler(joint))
        assert set(schedules_of(joint)) <= {"lr", "tau", "beta"}
        assert 0 < run_steps(joint) <= steps_after(joint, 9)
        assert config_of(joint, "runs", "images", number)["seed_everything"] == number
    with pytest.raises(ValueError, match="must be one of"):
        with_values(SIMPLEST, ["precision=8-true"])


def broken(*values: str) -> str:
    """Put a joint to the test whose code was broken; return the name of the law."""
    with pytest.raises(Failure) as failure:
        joint_case(1, with_values(SIMPLEST, values))
    return str(failure.value).split(":")[0]


def wrapped(monkeypatch, owner, name, change):
    """Let a method return what ``change`` makes of its result and arguments."""
    before = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args, **kwargs: change(before(*args, **kwargs), *args))


@pytest.mark.slow
class TestEachLawCanFail:
    """One break of the code for each law, at the plainest joint that sees it."""

    def test_traceback(self, monkeypatch):
        monkeypatch.setattr(RandomState, "on_train_start", lambda *_: {}["absent"])
        assert broken("resume=no") == "traceback"

    def test_exit_code(self, monkeypatch):
        def refuse(*_):
            raise ValueError("broken on purpose")

        monkeypatch.setattr(Checkpoints, "on_train_epoch_end", refuse)
        assert broken("resume=no") == "refusal"
        assert broken("end=signal", "at=2", "resume=no", "checkpoint_every=1") == "refusal"

    def test_steps(self, monkeypatch):
        # A stop asked for by a signal that is not answered.
        monkeypatch.setattr("dvae.callbacks.stop_on_signal.ends_a_step", lambda *_: False)
        monkeypatch.setattr(
            "dvae.callbacks.stop_on_signal.StopOnSignal.on_train_epoch_end", lambda *_: None
        )
        assert broken("end=signal", "at=4") in ("exit code", "steps")

    def test_validations(self, monkeypatch):
        wrapped(
            monkeypatch,
            RandomState,
            "on_train_start",
            lambda _, self, trainer, *__: setattr(trainer, "val_check_batch", 2),
        )
        assert broken("resume=no") == "validations"

    def test_schedules(self, monkeypatch):
        before = Anneal.on_train_batch_start

        def late(self, trainer, *args):
            self._run_steps += 1
            before(self, trainer, *args)

        monkeypatch.setattr(Anneal, "on_train_batch_start", late)
        assert broken("schedules=open", "resume=no") == "schedules"

    def test_log(self, monkeypatch):
        monkeypatch.setattr(model_module, "is_logged", lambda trainer: trainer.global_step != 4)
        assert broken("resume=no") == "log"

    def test_files(self, monkeypatch):
        def also_half(_, self, checkpoint, path, *args):
            Path(path).with_name("half.ckpt.part").touch()

        wrapped(monkeypatch, SafeCheckpointIO, "save_checkpoint", also_half)
        assert broken("resume=no") == "files"

    def test_best(self, monkeypatch):
        judge = Checkpoints._judge

        def keep_the_first(self, trainer):
            return self.best_model_score is None and judge(self, trainer)

        monkeypatch.setattr(Checkpoints, "_judge", keep_the_first)
        assert broken("resume=no") == "best"

    def test_weights(self, monkeypatch):
        monkeypatch.setattr(RandomState, "load_state_dict", lambda *_: None)
        assert broken("end=max_epochs") == "weights"

    def test_metrics(self, monkeypatch):
        def added(_, self, values, *args, **kwargs):
            if self.trainer.state.fn == "fit" and self.trainer.ckpt_path:
                self.log("val/more", 1.0)

        wrapped(monkeypatch, DiscreteVAE, "_log_means", added)
        assert broken("end=max_epochs", "at=6") in ("metrics", "weights")

    def test_finished(self, monkeypatch):
        monkeypatch.setattr(logging.getLogger("dvae"), "_log", lambda *_, **__: None)
        monkeypatch.setattr("builtins.print", lambda *_, **__: None)
        assert broken() == "finished"

    def test_finite(self, monkeypatch):
        wrapped(monkeypatch, DiscreteVAE, "_bits_per_dim", lambda value, *_: value * torch.nan)
        assert broken("resume=no") == "finite"

    def test_hard_codes(self, monkeypatch):
        wrapped(monkeypatch, CategoricalBottleneck, "embed", lambda code, *_: 0.99 * code)
        assert broken("resume=no") == "hard codes"

    def test_hard_codes_of_a_code_book(self, monkeypatch):
        def apart(code, self, index):
            return code if index.ndim == 3 else code + 0.1

        wrapped(monkeypatch, VQ, "embed", apart)
        assert broken("bottleneck=VQ", "resume=no") == "hard codes"

    def test_bounds(self, monkeypatch):
        wrapped(monkeypatch, evaluation_module, "iwae_bound", lambda bound, *_: bound - 100)
        assert broken("resume=no") == "bounds"

    def test_bound_above_the_likelihood(self, monkeypatch):
        wrapped(monkeypatch, evaluation_module, "iwae_bound", lambda bound, *_: bound + 20)
        assert broken("resume=no") == "bounds"

    def test_kl(self, monkeypatch):
        wrapped(monkeypatch, CategoricalPosterior, "kl", lambda kl, *_: kl + 3)
        assert broken("resume=no") == "bounds"

    def test_exact_likelihood(self, monkeypatch):
        wrapped(monkeypatch, Bernoulli, "pairwise_log_prob", lambda x, *_: x.bfloat16().float())
        assert broken("resume=no") == "exact likelihood"

    def test_precision(self, monkeypatch):
        def coarse(value, *_):
            return value * 1.5 if torch.is_autocast_enabled("cpu") else value

        wrapped(monkeypatch, torch.nn.Linear, "forward", coarse)
        assert broken("precision=bf16-mixed", "resume=no") == "precision"

    def test_refusal_of_what_does_not_work(self, monkeypatch):
        monkeypatch.setattr(checks, "check_objective", lambda *_: None)
        assert broken("objective=IWAE", "estimator=RLOO") == "refusal"

    def test_tokens(self, monkeypatch):
        before = encoding._Writer._write

        def shifted(self, shard, span, codes):
            before(self, shard, span, codes.roll(1, 0))

        monkeypatch.setattr(encoding._Writer, "_write", shifted)
        assert broken("resume=no", "tokens=test") == "tokens"
