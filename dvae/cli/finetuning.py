"""What `init_from` and the `finetune` section of a config do to a model."""

from dataclasses import replace

from pytorch_lightning.utilities.seed import isolate_rng

from dvae.models import DiscreteVAE
from dvae.models.finetune import Finetune
from dvae.models.growth import grow
from dvae.models.weights import WeightReport, carry_scalar, load_weights
from dvae.runs.checkpoints import Checkpoint
from dvae.runs.layout import RunFolder
from dvae.schedules import Constant, Mover, Tuned
from dvae.sharing.folder import is_shared, read_shared, shared_folder

__all__ = ["check_source", "take_over", "temperature_schedule"]


def check_source(settings: Finetune, init_from: str | None, resumed: str | None) -> None:
    """Refuse a run that would go on from two checkpoints, or from none where one is needed.

    Args:
        settings: The section.
        init_from: Checkpoint whose weights are taken over.
        resumed: Checkpoint that is resumed.

    Raises:
        ValueError: It would.
    """
    if init_from and resumed:
        raise ValueError(
            "init_from (fine-tune) and ckpt_path (resume) exclude each other; got both "
            "(--init_from null resumes a run that was itself fine-tuned)"
        )
    if not (init_from or resumed) and (settings.grow or settings.temperature != "restart"):
        raise ValueError(
            "finetune.grow and finetune.temperature take over something of a checkpoint: give it "
            "with --init_from"
        )


def take_over(
    model: DiscreteVAE, settings: Finetune, init_from: str, allow_mismatch: bool
) -> WeightReport:
    """Take over weights, grown if the section says so, and the temperature if it says so.

    Args:
        model: The model.
        settings: The section.
        init_from: Checkpoint; the folder of a run, whose best one is taken; or a shared folder, or
            the name of a model that comes with the package.
        allow_mismatch: Whether weights may be left over, missing, or of another shape.

    Returns:
        What was taken over.

    Raises:
        FileNotFoundError: There is no such checkpoint.
        ValueError: It does not fit.
    """
    growth = (lambda state: grow(state, model)) if settings.grow else None
    source = _source(init_from)
    report = load_weights(model, source, allow_mismatch, growth)
    if settings.temperature == "restart":
        return report
    return replace(report, tau=carry_scalar(model, source, "tau"))


def temperature_schedule(settings: Finetune, schedule: Mover | None) -> Mover | None:
    """Find the schedule that the temperature goes by, before its start is carried over.

    Args:
        settings: The section.
        schedule: The config's, if there is one.

    Raises:
        ValueError: The temperature is to continue, and there is nothing to say where to.
    """
    if settings.temperature == "hold":
        # It needs no schedule, and a config's is not to be in the way; the value is replaced. A
        # tuner measures.
        return schedule if isinstance(schedule, Tuned) else Constant(1.0)
    if settings.temperature == "continue" and schedule is None:
        raise ValueError(
            "finetune.temperature continue needs anneal.tau, which says at what value to end; "
            "hold keeps the checkpoint's"
        )
    return schedule


def _source(init_from: str) -> Checkpoint:
    folder = shared_folder(init_from)
    if not is_shared(folder):
        return Checkpoint(RunFolder.checkpoint_in(init_from))
    with isolate_rng():  # the run draws what it would without
        model = read_shared(folder)
    content = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    return Checkpoint(init_from, content)
