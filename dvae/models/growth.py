r"""A trained model's weights for a larger code: more codes by splitting, more latents at the prior.

Pure functions on state dicts. A code is split in two whose logits are the parent's less
:math:`\log 2` and whose prior probabilities are half of the parent's: uniform over 2K where it was
uniform over K. So the posterior over parents is the same, and the KL exactly, since
:math:`2 \cdot \frac q2 \log \frac{q/2}{p/2} = q \log \frac qp`. What the decoder sees of the two is
the parent's, a little off in opposite directions, so that training can tell them apart. A new
latent starts at the prior, so its KL is 0, and the decoder does not listen to it yet.
"""

import math
from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn

from dvae.bottlenecks import CategoricalBottleneck, DistanceCodebook, ProjectedCodebook
from dvae.models.base import DiscreteVAE
from dvae.priors import UniformPrior

__all__ = ["add_latents", "grow", "split_categories", "split_codebook"]

# How far the two halves of a code are from it, as a fraction of the spread of all codes.
JITTER = 0.01

State = dict[str, Tensor]


def grow(state: Mapping[str, Tensor], model: DiscreteVAE, jitter: float = JITTER) -> State:
    """Grow the weights of a smaller model to the size of this one, where its code is larger.

    Args:
        state: Weights of a model that has fewer codes or latents and is otherwise the same; left
            as they are.
        model: The larger model; only looked at.
        jitter: How far the halves of a split code are from it, as a fraction of the standard
            deviation of all codes; with 0 the decoder sees the same.

    Returns:
        Weights; those given where the sizes agree.

    Raises:
        ValueError: The bottleneck or network is of a kind that does not grow, the number of codes
            is not doubled a whole number of times, or there would be fewer of something; or the
            prior of the checkpoint does not factorise and this model's is not uniform, in whose
            place it would be dropped.
    """
    bottleneck, state = model.bottleneck, _factorised(state, model)
    # Its own generator: growing draws nothing from that of the run.
    generator = Generator().manual_seed(0)
    if isinstance(bottleneck, (ProjectedCodebook, DistanceCodebook)):
        old = len(_get(state, "bottleneck.codebook"))
        for _ in range(_doublings(old, bottleneck.num_codes)):
            state = split_codebook(state, jitter, generator)
        return state
    if not isinstance(bottleneck, CategoricalBottleneck):
        raise ValueError(
            "finetune.grow is for CategoricalBottleneck, ProjectedCodebook and DistanceCodebook; "
            f"got {type(bottleneck).__name__}"
        )
    encoder, decoder = _ends(model)
    codes = _prior_of(state)[1].shape[-1]
    latents = len(_get(state, f"{encoder}.weight")) // codes
    if latents > bottleneck.num_latents:
        raise ValueError(
            f"the checkpoint has {latents} latents and this model {bottleneck.num_latents}: a "
            "model grows, it does not shrink"
        )
    for _ in range(_doublings(codes, bottleneck.num_codes)):
        state = split_categories(state, encoder, decoder, jitter, generator)
    return add_latents(state, encoder, decoder, bottleneck.num_latents - latents)


def split_codebook(state: Mapping[str, Tensor], jitter: float, generator: Generator) -> State:
    r"""Split each of K codes of a code book in two: codes 2k and 2k + 1 come of k.

    Args:
        state: Weights of a model with `ProjectedCodebook` or `DistanceCodebook`.
        jitter: As in `grow`. The logits of a `DistanceCodebook`, being distances to the vectors,
            move with them: of first order in the jitter.
        generator: Source of the directions in which the halves part.

    Returns:
        All weights, those of the code book with 2K rows.
    """
    grown = dict(state)
    codebook = state["bottleneck.codebook"]
    grown["bottleneck.codebook"] = _part(codebook, codebook.std() * jitter, generator)
    for name in ("projection.weight", "projection.bias", "idle.steps", "idle.uses"):
        key = f"bottleneck.{name}"
        if key in state:
            grown[key] = state[key].repeat_interleave(2, 0)
    if "bottleneck.projection.bias" in state:
        grown["bottleneck.projection.bias"] -= math.log(2)
    return _split_prior(grown)


def split_categories(
    state: Mapping[str, Tensor], encoder: str, decoder: str, jitter: float, generator: Generator
) -> State:
    """Split each category of every latent in two: categories 2k and 2k + 1 come of k.

    Args:
        state: Weights of a model with `CategoricalBottleneck`.
        encoder: Name of the linear layer that gives the ``L * K`` logits.
        decoder: Name of the linear layer that takes the ``L * K`` codes.
        jitter: As in `grow`.
        generator: Source of the directions in which the halves part.

    Returns:
        All weights, those at the code with 2K categories a latent.
    """
    grown = dict(state)
    grown[f"{encoder}.weight"] = state[f"{encoder}.weight"].repeat_interleave(2, 0)
    bias = state[f"{encoder}.bias"].repeat_interleave(2, 0)
    grown[f"{encoder}.bias"] = bias - math.log(2)
    columns = state[f"{decoder}.weight"].T
    grown[f"{decoder}.weight"] = _part(columns, columns.std() * jitter, generator).T.contiguous()
    return _split_prior(grown)


def add_latents(state: Mapping[str, Tensor], encoder: str, decoder: str, count: int) -> State:
    """Add latents whose posterior is the prior and which the decoder does not use yet.

    Args:
        state: Weights of a model with `CategoricalBottleneck`.
        encoder: Name of the linear layer that gives the ``L * K`` logits.
        decoder: Name of the linear layer that takes the ``L * K`` codes.
        count: Latents to add, at least 0; they come last.

    Returns:
        All weights, those at the code for L + count latents.
    """
    grown = dict(state)
    name, table = _prior_of(state)
    if table.dim() > 1:
        # Each latent learns its own, from uniform on.
        grown[name] = torch.cat([table, table.new_zeros(count, table.shape[1])])
        table = table.new_zeros(table.shape[1])
    weight = state[f"{encoder}.weight"]
    rows = count * len(table)
    grown[f"{encoder}.weight"] = torch.cat([weight, weight.new_zeros(rows, weight.shape[1])])
    grown[f"{encoder}.bias"] = torch.cat([state[f"{encoder}.bias"], table.repeat(count)])
    weight = state[f"{decoder}.weight"]
    grown[f"{decoder}.weight"] = torch.cat([weight, weight.new_zeros(len(weight), rows)], 1)
    return grown


def _prior_of(state: Mapping[str, Tensor]) -> tuple[str, Tensor]:
    """Find the log-probabilities of a prior that factorises, given or learned."""
    for name in ("prior.table", "prior.logits"):
        if name in state:
            return name, state[name]
    raise ValueError("the checkpoint cannot grow to this model: it has no table of a prior")


def _factorised(state: Mapping[str, Tensor], model: DiscreteVAE) -> State:
    """Put a uniform prior in the place of one that does not factorise, where that is asked for."""
    if any(name in state for name in ("prior.table", "prior.logits")):
        return dict(state)
    reason = "the checkpoint cannot grow to this model: its prior does not factorise"
    if not isinstance(model.prior, UniformPrior):
        raise ValueError(
            f"{reason}; grow without it, --model.prior UniformPrior, and train one of the larger "
            "code afterwards, --model.objective PriorLikelihood"
        )
    tables = [state[name] for name in ("bottleneck.codebook", "prior.net.head") if name in state]
    if not tables:
        raise ValueError(f"{reason}, and MADEPrior does not say how many codes there are")
    rest = {name: value for name, value in state.items() if not name.startswith("prior.")}
    uniform = torch.full((len(tables[0]),), -math.log(len(tables[0])))
    return {**rest, "prior.table": uniform.to(tables[0].dtype)}


def _split_prior(state: State) -> State:
    name, table = _prior_of(state)
    return {**state, name: table.repeat_interleave(2, -1) - math.log(2)}


def _part(rows: Tensor, size: Tensor, generator: Generator) -> Tensor:
    """Put two rows, apart in opposite directions, in the place of each."""
    noise = size * torch.randn(rows.shape, generator=generator, dtype=rows.dtype)
    return torch.stack([rows + noise, rows - noise], 1).flatten(0, 1)


def _doublings(old: int, new: int) -> int:
    times, rest = divmod(new, old)
    if rest or times & (times - 1):
        raise ValueError(
            f"the checkpoint has {old} codes and this model {new}: codes are split in two, so "
            f"num_codes must be {old}, {2 * old}, {4 * old} and so on"
        )
    return times.bit_length() - 1


def _ends(model: DiscreteVAE) -> tuple[str, str]:
    """Name the linear layers before and after the code."""
    encoder, decoder = (list(part.named_children()) for part in (model.encoder, model.decoder))
    if encoder and decoder:
        (last, before), (first, after) = encoder[-1], decoder[0]
        if isinstance(before, nn.Linear) and isinstance(after, nn.Linear):
            return f"encoder.{last}", f"decoder.{first}"
    raise ValueError(
        "latents and their categories grow between an encoder that ends and a decoder that begins "
        "with a linear layer, as those of MLP do"
    )


def _get(state: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in state:
        raise ValueError(f"the checkpoint cannot grow to this model: it has no {name}")
    return state[name]
