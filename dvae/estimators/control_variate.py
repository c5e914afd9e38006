r"""A score-function estimate with a learned control variate on the Gumbel noise of the draw."""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor, nn

from dvae.estimators.base import Integrand, check_draw, check_logits, gumbel_noise_like
from dvae.estimators.score_function import evaluate
from dvae.functional import attach_gradient, attach_own_gradients, one_hot_like

__all__ = ["controlled_expectation"]

# Below it a perturbed log-probability is that of a category that never wins; -inf itself would
# turn into NaN in the gradient of softmax(z / tau) in tau.
_LOWEST = -1e4


def controlled_expectation(
    f: Integrand,
    control: Callable[[Tensor], Tensor],
    own: Sequence[nn.Parameter],
    logits: Tensor,
    generator: Generator | None = None,
) -> Tensor:
    r"""Estimate E[f] by one draw, its gradient with a control variate c of continuous noise.

    With :math:`z = \log\pi + G`, :math:`b = \arg\max z` and :math:`\tilde z` distributed as z
    given b, the gradient :math:`[f(b) - c(\tilde z)] \nabla \log p(b) + \nabla c(z) - \nabla
    c(\tilde z)` is unbiased for any c and any coupling of z and :math:`\tilde z`. Here the noise
    of :math:`\tilde z` is tied to that of z so that both have the same value (Tucker et al. tie
    theirs too): c is evaluated once, and with the reparameterisation of `gumbel_given_max` the
    last two terms are :math:`e^{z - \max z}\, c'(z)` pulled back through the log-softmax.

    Args:
        f: Takes codes ``(1, B, ..., K)``, returns ``(1, B)``.
        control: c, takes finite z ``(B, ..., K)``, returns ``(B,)``; differentiable twice.
        own: Parameters of c. A backward pass through the result gives them the gradient of the
            estimator's variance: of :math:`\sum_b |w_b| \|\nabla_b\|^2`, where :math:`w_b` is the
            weight of example b in the loss. That is the batch mean in the loss of a batch mean.
        logits: Unnormalised log-probabilities ``(B, ..., K)``.
        generator: Source of the noise; the global generator by default.

    Returns:
        f at the draw, ``(B,)``.

    References:
        G. Tucker et al., 2017, arXiv 1703.07370, section 3.1; W. Grathwohl et al., 2018,
        arXiv 1711.00123, eq. 5 and appendix B.
    """
    log_probs = check_logits(logits).detach().log_softmax(-1)
    scores = gumbel_noise_like(log_probs, generator).add_(log_probs)
    index = scores.argmax(-1)
    check_draw(scores, index)
    code = one_hot_like(logits, index)
    value = evaluate(f, code.unsqueeze(0)).squeeze(0)
    if not (torch.is_grad_enabled() and logits.requires_grad):
        return value

    z = scores.clamp_min(_LOWEST).requires_grad_()
    c = control(z)
    # As every backward pass, outside of autocast: it would round what is in float32 for a reason.
    with torch.autocast(z.device.type, enabled=False):
        (slope,) = torch.autograd.grad(c.sum(), z, create_graph=True)
    tied = (scores - scores.amax(-1, keepdim=True)).exp() * slope
    probs = log_probs.exp()
    excess = (value.detach().to(c.dtype) - c).reshape(-1, *(1,) * (probs.dim() - 1))
    gradient = excess * (code - probs) + tied - probs * tied.sum(-1, keepdim=True)
    result = attach_gradient(value, logits, gradient)

    learned = [parameter for parameter in own if parameter.requires_grad]
    if not learned:
        return result
    # The second moment, which differs from the variance by the square of the true gradient.
    return attach_own_gradients(result, learned, gradient.square().flatten(1).sum(1))
