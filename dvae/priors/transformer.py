"""A transformer over the integers of a code, one-hot or relaxed; its layers are x-transformers'."""

import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from dvae.priors.base import EXACT, Prior, Sampling
from dvae.scalars import check_count

__all__ = ["CodeTransformer", "TransformerPrior"]

# Standard deviation of what is learned for codes, places and classes, at the start. After 400 steps
# on codes of MNIST, 7 x 7 of 16 values, 0.02 was 4 nats behind, and 0.1 to 1 were alike.
SPREAD = 0.3


class TransformerPrior(Prior):
    """What priors share whose p(z) is said by a `CodeTransformer`: sizes and classes.

    Args:
        width: Features of a token, at least 1, a multiple of ``heads``.
        depth: Layers of attention and perceptron, at least 1.
        heads: Heads of each layer, at least 1.
        num_classes: Classes of the data, where the prior is to know them; 0 for none.
        label_dropout: Fraction of the labels that training leaves out, in [0, 1].

    Raises:
        ValueError: A value outside its range.
    """

    net: "CodeTransformer"

    def __init__(
        self,
        width: int = 128,
        depth: int = 3,
        heads: int = 4,
        num_classes: int = 0,
        label_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_count(f"{name}.width", width, 1)
        check_count(f"{name}.depth", depth, 1)
        check_count(f"{name}.heads", heads, 1)
        check_count(f"{name}.num_classes", num_classes, 0)
        if width % heads:
            raise ValueError(f"{name}.width must be a multiple of heads, {heads}; got {width}")
        if not 0 <= label_dropout <= 1:
            raise ValueError(f"{name}.label_dropout must be in [0, 1]; got {label_dropout}")
        self.width, self.depth, self.heads = width, depth, heads
        self.num_classes, self.label_dropout = num_classes, label_dropout

    @abstractmethod
    def log_prob(self, code: Tensor, label: Tensor | None = None) -> Tensor:
        """Return log p(z), or log p(z | label); see `Prior.log_prob`."""

    def given(self, label: Tensor | None) -> Prior:
        """Return p(z | label) of a batch; in training some labels are dropped, by the global noise.

        They are dropped here and not in `log_prob`, which an estimator may call several times for
        one draw: what it estimates the gradient of is one function in each step.
        """
        if label is None or not self.num_classes:
            return self
        kept = label
        if self.training and self.label_dropout:
            dropped = torch.rand(label.shape, device=label.device) < self.label_dropout
            kept = label.masked_fill(dropped, self.num_classes)
        return _GivenPrior(self, label, lambda code: self.log_prob(code, kept))

    def revive(self, dead: Tensor, anew: bool) -> list[Tensor]:
        """Make revived codes as probable as the others; see `Prior.revive`."""
        return self.net.revive(dead, anew)

    def _transformer(self, counts_shape: Sequence[int], causal: bool) -> "CodeTransformer":
        sizes = (self.width, self.depth, self.heads, self.num_classes)
        return CodeTransformer(self.index_shape, counts_shape, *sizes, causal=causal)


class _GivenPrior(Prior):
    """p(z | label) of a batch, for objectives; it has no weights of its own."""

    def __init__(self, prior: Prior, label: Tensor, log_prob: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._label, self._log_prob, self._sample = label, log_prob, prior.sample
        self.estimates = prior.estimates

    def log_prob(self, code: Tensor) -> Tensor:
        """Compute log p(z | label) for codes ``(..., B, *positions)`` or of copies of the batch."""
        return self._log_prob(code)

    def sample(
        self,
        count: int,
        generator: Generator | None = None,
        how: Sampling = EXACT,
        label: Tensor | None = None,
    ) -> Tensor:
        """Draw given the labels of the batch, or others; see `Prior.sample`."""
        return self._sample(count, generator, how, self._label if label is None else label)


class CodeTransformer(nn.Module):
    """Maps tokens of codes to logits; at first all logits are 0.

    A place is known by what is learned for its row plus what is learned for its column, and its
    distance from others by rotary embeddings of half of each head of 8 features or more.

    Args:
        index_shape: Shape of the integers of one image.
        counts_shape: See `Prior.build`; each row of codes has its own embedding and output.
        width: Features of a token.
        depth: Layers.
        heads: Heads of each layer.
        num_classes: Classes that there are embeddings of, and one for none of them.
        causal: Whether a token sees those up to it and no others.
    """

    def __init__(
        self,
        index_shape: Sequence[int],
        counts_shape: Sequence[int],
        width: int,
        depth: int,
        heads: int,
        num_classes: int,
        causal: bool,
    ) -> None:
        super().__init__()
        tables, num_codes = ([1, *counts_shape])[-2:]
        self.codes = nn.Parameter(SPREAD * torch.randn(num_codes, tables, width))
        self.axes = nn.ParameterList(SPREAD * torch.randn(size, width) for size in index_shape)
        self.classes = nn.Parameter(SPREAD * torch.randn(num_classes + 1, width))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about what the library asks of it
            import x_transformers  # here, for whoever has no such prior: it takes a second

        kind = x_transformers.Decoder if causal else x_transformers.Encoder
        # Without `attn_flash`: on CPUs its backward in bfloat16 takes three times as long.
        self.layers = kind(
            dim=width,
            depth=depth,
            heads=heads,
            attn_dim_head=width // heads,
            rotary_pos_emb=width // heads >= 8,  # the library's have 4 features at least
            rotary_emb_dim=width // heads // 4 * 2,
            verbose=False,  # what it has to say is for language models
        )
        self.head = nn.Parameter(torch.zeros(num_codes, tables, width))
        self.bias = nn.Parameter(torch.zeros(num_codes, tables))

    def tokens(self, code: Tensor, place: int | None = None) -> Tensor:
        """Embed codes, linearly: ``(N, T, width)``.

        Args:
            code: One-hot or relaxed ``(N, T, K)``, or integers ``(N, T)``; one place has T = 1.
            place: The one place.
        """
        if code.is_floating_point():
            return _map(code, self.codes.transpose(0, 2), place)
        tables = self.codes.shape[1]
        row = torch.arange(code.shape[1], device=code.device) if place is None else place
        return F.embedding(code * tables + row % tables, self.codes.flatten(0, 1))

    def first(self, label: Tensor | None, count: int) -> Tensor:
        """Return the token of a class, or of none: ``(N, 1, width)``.

        Args:
            label: Integers ``(N,)``; the number of classes stands for none.
            count: N.
        """
        rows = self.classes[-1:].expand(count, -1) if label is None else self.classes[label]
        return rows.unsqueeze(1)

    def places(self) -> Tensor:
        """Return what is added to the token at each place, ``(T, width)``."""
        tables: list[Tensor] = list(self.axes)
        total = tables[0]
        for table in tables[1:]:
            total = total.unsqueeze(-2) + table
        return total.flatten(0, -2)

    def logits(self, hidden: Tensor, place: int | None = None) -> Tensor:
        """Map what the layers return to logits, in float32 at least, whatever autocast says.

        Args:
            hidden: ``(N, T, width)``, or ``(N, 1, width)`` of one place.
            place: The one place.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            bias = self.bias.T
            if place is not None:
                bias = bias[place % len(bias)]
            elif len(bias) > 1:
                bias = bias.repeat(hidden.shape[1] // len(bias), 1)
            return _map(hidden.to(bias.dtype), self.head, place) + bias

    def cached(self) -> Callable[[Tensor], Tensor]:
        """Return a function of one token after another, ``(N, 1, width)``, that keeps the keys."""
        cache = None

        def step(token: Tensor) -> Tensor:
            nonlocal cache
            hidden, cache = self.layers(token, cache=cache, return_hiddens=True)
            return hidden  # type: ignore[no-any-return]

        return step

    @torch.no_grad()
    def revive(self, dead: Tensor, anew: bool) -> list[Tensor]:
        """Make codes that are never chosen as probable as the others; see `Prior.revive`."""
        tables: list[Tensor] = [self.head, self.bias]
        if not self.head.requires_grad:
            return []
        for table in tables:
            for row, gone in enumerate(dead.view(-1, len(table))):
                table[gone, row] = 0.0 if anew else table[~gone, row].mean(0)
        return tables


def _map(x: Tensor, weight: Tensor, place: int | None) -> Tensor:
    """Map ``(N, T, I)`` to ``(N, T, O)`` by P matrices ``(O, P, I)``, which places take in turn."""
    tables = weight.shape[1]
    if place is not None or tables == 1:
        return x @ weight[:, (place or 0) % tables].T
    return torch.einsum("ngti,oti->ngto", x.unflatten(1, (-1, tables)), weight).flatten(1, 2)
