"""Pure maths of discrete latents: tensors in, tensors out, and the noise is an argument."""

from dvae.functional.antithetic import arms_bits, arms_debias, disarm_gradient
from dvae.functional.attach import attach_gradient, attach_own_gradients
from dvae.functional.bounds import batch_mean, iwae_bound
from dvae.functional.categorical import (
    categorical_entropy,
    categorical_kl,
    categorical_log_prob,
    count_categories,
    information_by_category,
    perplexity_from_counts,
    usage_from_counts,
)
from dvae.functional.gumbel import (
    exponential_from_bits,
    exponential_from_uniform,
    gumbel_from_uniform,
    gumbel_given_max,
    gumbel_max,
    gumbel_softmax,
    gumbel_softmax_given_max,
)
from dvae.functional.kmeans import kmeans, squared_distance
from dvae.functional.leave_one_out import leave_one_out_advantage, vimco_advantage
from dvae.functional.likelihoods import (
    bernoulli_log_prob,
    discretized_logistic_log_prob,
    gaussian_log_prob,
    laplace_log_prob,
)
from dvae.functional.minimum_variance import minimum_variance, minimum_variance_gradient
from dvae.functional.pixels import as_pixels, check_range
from dvae.functional.sample_distances import frechet_distance, precision_recall
from dvae.functional.softmax import softmax, softmax_jacobian
from dvae.functional.straight_through import one_hot_like, straight_through
from dvae.functional.truncation import truncate_logits
from dvae.functional.zgr import zgr

__all__ = [
    "arms_bits",
    "arms_debias",
    "as_pixels",
    "attach_gradient",
    "attach_own_gradients",
    "batch_mean",
    "bernoulli_log_prob",
    "categorical_entropy",
    "categorical_kl",
    "categorical_log_prob",
    "check_range",
    "count_categories",
    "disarm_gradient",
    "discretized_logistic_log_prob",
    "exponential_from_bits",
    "exponential_from_uniform",
    "frechet_distance",
    "gaussian_log_prob",
    "gumbel_from_uniform",
    "gumbel_given_max",
    "gumbel_max",
    "gumbel_softmax",
    "gumbel_softmax_given_max",
    "information_by_category",
    "iwae_bound",
    "kmeans",
    "laplace_log_prob",
    "leave_one_out_advantage",
    "minimum_variance",
    "minimum_variance_gradient",
    "one_hot_like",
    "perplexity_from_counts",
    "precision_recall",
    "softmax",
    "softmax_jacobian",
    "squared_distance",
    "straight_through",
    "truncate_logits",
    "usage_from_counts",
    "vimco_advantage",
    "zgr",
]
