"""Which temperature a tuner moves towards, by the bias and the noise that it has found."""

__all__ = ["choice"]


def choice(taus: list[float], bias2: list[float], noise: list[float]) -> float:
    """Return the highest temperature at which the noise hides the bias, between those of a grid.

    Args:
        taus: Ascending temperatures, each the same factor times the one before.
        bias2: Squared bias at each.
        noise: Variance of a mean of gradients at each. Its difference from the squared bias is
            taken to be linear in the logarithm of the temperature. If bias is larger everywhere,
            the least of their sum counts, by a parabola through it and its neighbours.
    """
    excess = [bias - spread for bias, spread in zip(bias2, noise, strict=True)]
    errors = [bias + spread for bias, spread in zip(bias2, noise, strict=True)]
    hidden = [at for at, value in enumerate(excess) if value <= 0]
    at = hidden[-1] if hidden else errors.index(min(errors))
    if at == len(taus) - 1 or not (hidden or at):
        return taus[at]
    if hidden:
        share = excess[at] / (excess[at] - excess[at + 1])
    else:
        before, least, after = errors[at - 1 : at + 2]
        share = 0.5 * (before - after) / (before - 2 * least + after)
    return float(taus[at] * (taus[at + 1] / taus[at]) ** share)
