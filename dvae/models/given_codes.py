"""A prior that is trained on codes alone, as `dvae.data.TokenData` hands them out."""

from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import Trainer
from torch import Tensor

from dvae.bottlenecks.posterior import PointPosterior
from dvae.data.batch import CodeBatch
from dvae.data.loading import make_loader
from dvae.data.token_data import TokenData
from dvae.models.objectives import ObjectiveOutput

if TYPE_CHECKING:
    from dvae.models.base import DiscreteVAE

__all__ = ["check_prior_alone", "check_tokens", "output_of_codes"]

# Images that are encoded again to see whether the codes are the model's.
_LOOKED_AT = 64


def output_of_codes(model: "DiscreteVAE", batch: CodeBatch) -> ObjectiveOutput:
    """Evaluate the objective of codes that are known for certain; nothing is decoded.

    Args:
        model: Model whose prior is trained.
        batch: The codes, on its device.
    """
    # Nothing is asked of it but the code and its entropy, so there is nothing to decode.
    nothing = torch.zeros(len(batch.code), 0, device=batch.code.device)
    posterior = PointPosterior(nothing, batch.code, model.num_codes, None)
    return model.objective(_refuse, posterior, model.prior_of(batch))  # type: ignore[no-any-return]


def _refuse(z: Tensor) -> Tensor:
    raise ValueError("codes without images train the prior alone: see TokenData")


def check_prior_alone(model: "DiscreteVAE", trainer: Trainer) -> None:
    """Refuse a training of the prior alone that several processes cannot do, or unfit tokens.

    Args:
        model: Model whose prior may be trained alone, with its frozen parts frozen.
        trainer: Trainer of the fit.

    Raises:
        ValueError: See above and `check_tokens`.
    """
    learn = (name for name, p in model.named_parameters() if p.requires_grad)
    parts = sorted({name.split(".")[0] for name in learn} - {"prior"})
    if model.objective.prior_alone and trainer.world_size > 1 and parts:
        raise ValueError(  # DDP waits for the gradients of all that learn
            f"{type(model.objective).__name__} in {trainer.world_size} processes needs all but the "
            f"prior frozen: --finetune.freeze [{', '.join(parts)}]"
        )
    check_tokens(model, getattr(trainer, "datamodule", None))


def check_tokens(model: "DiscreteVAE", data: Any) -> None:
    """Refuse tokens that the model cannot have written, or an objective that wants more than them.

    Args:
        model: Model whose prior is to be trained.
        data: The data of the run; of anything but `TokenData` nothing is said.

    Raises:
        ValueError: See above.
    """
    if not isinstance(data, TokenData) or data.tokens is None:
        return
    if not (model.objective.prior_alone and model.objective.suffix == "_mode"):
        raise ValueError(
            "TokenData has arg-max codes and no images to train on: set model.objective "
            "PriorLikelihood and model.objective.codes mode"
        )
    about, tokens = data.tokens.about, data.tokens
    if (about.num_codes, about.shape) != (model.num_codes, model.index_shape):
        raise ValueError(
            f"the tokens in {data.folder} are {about.shape} integers of {about.num_codes} codes "
            f"each and the model has {model.index_shape} of {model.num_codes}"
        )
    rows = data.images.rows("train")
    loader = make_loader(rows.images, _LOOKED_AT, shuffle=False, seed=0, trainer=None)
    place = {position: n for n, position in enumerate(rows.index.tolist())}
    known = [n for n, position in enumerate(tokens.index.tolist()) if position in place]
    chosen = known[:_LOOKED_AT]
    if not chosen:
        raise ValueError(f"the tokens in {data.folder} are of none of the images of {data.name}")
    if others := len(tokens.index) - len(known):
        raise ValueError(
            f"the tokens in {data.folder} are of {others} images that {data.name} does not train "
            "on: data.images.val_size must be what it was when they were written"
        )
    batch = loader.take(torch.tensor([place[int(tokens.index[n])] for n in chosen]))
    # Another precision may turn a few, another model almost all.
    same = (model.encode(batch).cpu() == tokens.codes[chosen]).double().mean().item()
    if same < 0.5:
        raise ValueError(
            f"the tokens in {data.folder} are of another model or other images than these: "
            f"{same:.0%} of the integers of {len(chosen)} images are the same (--init_from gives "
            f"the model that wrote them, {about.checkpoint})"
        )
