"""Pure maths of discrete latents: tensors in, tensors out, and the noise is an argument."""

from dvae.functional.bounds import iwae_bound
from dvae.functional.categorical import (
    categorical_entropy,
    categorical_kl,
    categorical_log_prob,
    perplexity_from_counts,
    usage_from_counts,
)
from dvae.functional.gumbel import gumbel_from_uniform, gumbel_max, gumbel_softmax
from dvae.functional.likelihoods import bernoulli_log_prob
from dvae.functional.straight_through import one_hot_like, straight_through

__all__ = [
    "bernoulli_log_prob",
    "categorical_entropy",
    "categorical_kl",
    "categorical_log_prob",
    "gumbel_from_uniform",
    "gumbel_max",
    "gumbel_softmax",
    "iwae_bound",
    "one_hot_like",
    "perplexity_from_counts",
    "straight_through",
    "usage_from_counts",
]
