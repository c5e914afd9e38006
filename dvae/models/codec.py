"""What a trained model is used for: events to codes and back, and codes changed on the way."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields
from typing import Any

import torch
from torch import Generator, Tensor, nn

from dvae.bottlenecks.base import Bottleneck
from dvae.models.events import Events
from dvae.models.modes import evaluating
from dvae.priors.base import Prior, Sampling
from dvae.scalars import check_count

__all__ = ["Codec", "evaluating"]


class Codec(Events):
    """An encoder, a bottleneck and a decoder in use: always in evaluation mode, whatever theirs is.

    What is said of images holds for other events as well, whose shape stands where
    ``(C, H, W)`` does, and whose values are what the likelihood says.

    Attributes:
        bottleneck: Features to the posterior of codes.
        prior: Distribution of codes.
        decoder: Codes to the likelihood's parameters.
    """

    bottleneck: Bottleneck
    prior: Prior
    decoder: nn.Module

    @property
    def index_shape(self) -> tuple[int, ...]:
        """Shape of the integers of one image: ``(L,)``, or that of the grid."""
        return self.bottleneck.index_shape

    @property
    def num_codes(self) -> int:
        """Categories K of each integer."""
        return self.bottleneck.counts_shape[-1]

    def forward(self, image: Any) -> Tensor:
        """Return the reconstruction, see `reconstruct`; no gradient passes through it."""
        return self.reconstruct(image)

    @torch.no_grad()
    def encode(self, image: Any) -> Tensor:
        """Return the most probable code.

        Args:
            image: Pixels in [0, 1] or bytes, ``(B, C, H, W)``; or NumPy arrays, PIL images, or a
                batch with any of them: see `dvae.data.batch.as_batch`. Where the code is a grid,
                tensors may be of any height and width that the network divides; large ones are
                encoded in overlapping tiles, see `dvae.models.tiling`.

        Returns:
            Integers ``(B, ...)``.

        Raises:
            ValueError: The images are of a shape that the network does not take, or no pixels.
        """

        def code(part: Tensor) -> Tensor:
            return self.bottleneck(self.encoder(part)).mode()  # type: ignore[no-any-return]

        pixels, tiling = self.images_of(image, any_size=True), self.tiling
        with self._evaluating():
            return tiling.stitched(code, pixels) if tiling else code(pixels)

    @torch.no_grad()
    def decode(self, index: Tensor) -> Tensor:
        """Return the expected image of a code.

        Args:
            index: Integers ``(B, ...)`` in [0, K); a grid of any size, which may be decoded in
                tiles, as `encode` does.

        Returns:
            Pixels in [0, 1], ``(B, C, H, W)``.

        Raises:
            ValueError: An integer out of range, no integers, or of another shape.
        """
        self._check_codes(index)

        def pixels(part: Tensor) -> Tensor:
            return self.likelihood.mean(self.decoder(self.bottleneck.embed(part)))

        tiling = self.tiling
        with self._evaluating():
            return tiling.blended(pixels, index) if tiling else pixels(index)

    def reconstruct(self, image: Any) -> Tensor:
        """Return the expected image of the most probable code; takes what `encode` does."""
        return self.decode(self.encode(image))

    @torch.no_grad()
    def reconstruct_relaxed(self, image: Any, generator: Generator | None = None) -> Tensor:
        """Return the expected image of the code that the estimator sends forward in training.

        Args:
            image: As in `encode`.
            generator: Where the noise comes from; the global one by default.
        """
        with self._evaluating():
            q = self.bottleneck(self.encoder(self.images_of(image)))
            return self.likelihood.mean(self.decoder(q.draw(generator).z))

    def sample(
        self,
        count: int,
        generator: Generator | None = None,
        label: int | Sequence[int] | Tensor | None = None,
        **how: float,
    ) -> Tensor:
        """Draw codes from the prior and return their expected images.

        Args:
            count: How many.
            generator: Source of the noise; the global one by default.
            label: Class of all images, or of each, for priors that know classes.
            how: ``temperature``, ``top_k``, ``top_p`` and ``guidance``: see `dvae.priors.Sampling`;
                by default codes are drawn as the prior has them.

        Returns:
            Pixels in [0, 1], ``(count, C, H, W)``.

        Raises:
            ValueError: A value outside its range, or a class that the prior does not know.
        """
        check_count("count", count, 0)
        asked, classes = self._asked("sample", count, label, how)
        with self._evaluating():
            index = self.prior.sample(count, generator, asked, classes)
        return self.decode(index)

    @torch.no_grad()
    def complete(
        self,
        image: Any,
        mask: Any,
        generator: Generator | None = None,
        label: int | Sequence[int] | Tensor | None = None,
        **how: float,
    ) -> Tensor:
        """Draw some integers of the most probable code anew, given the others, and decode.

        Args:
            image: As in `encode`.
            mask: Where to draw, booleans of `index_shape` or ``(B, *index_shape)``. `MaskedPrior`
                and priors of independent positions take any; one that draws in raster order takes
                all from some integer on.
            generator: As in `sample`.
            label: As in `sample`.
            how: As in `sample`.

        Returns:
            Pixels in [0, 1], ``(B, C, H, W)``; of the whole code, so that what the mask leaves may
            look different too where the decoder sees beyond it.

        Raises:
            ValueError: The images are of another shape than the network's, the mask is of another
                shape or type, a value is outside its range, or the prior cannot draw these.
        """
        index = self.encode(self.images_of(image))
        return self.decode(self.complete_code(index, mask, generator, label, **how))

    def complete_code(
        self,
        index: Tensor,
        mask: Any,
        generator: Generator | None = None,
        label: int | Sequence[int] | Tensor | None = None,
        **how: float,
    ) -> Tensor:
        """Draw some integers of codes ``(B, *index_shape)`` anew, as `complete` does of images."""
        self._check_codes(index)
        shape = self.index_shape
        if tuple(index.shape[1:]) != shape:
            raise self._other_shape(index)
        index = index.long().to(self.device)
        where = _booleans(mask).to(index.device)
        if where.shape not in (shape, index.shape):
            raise ValueError(
                f"mask must be of shape {shape} or {tuple(index.shape)}; got {tuple(where.shape)}"
            )
        asked, classes = self._asked("complete", len(index), label, how)
        with self._evaluating():
            return self.prior.complete(index, where, generator, asked, classes)

    def _asked(
        self,
        name: str,
        count: int,
        label: int | Sequence[int] | Tensor | None,
        how: Mapping[str, float],
    ) -> tuple[Sampling, Tensor | None]:
        unknown = how.keys() - {field.name for field in fields(Sampling)}
        if unknown:
            raise ValueError(
                f"{name} takes temperature, top_k, top_p and guidance; got {sorted(unknown)[0]!r}"
            )
        asked = Sampling(**how)  # type: ignore[arg-type]
        if asked.guidance and (label is None or not self.prior.num_classes):
            raise ValueError(
                f"guidance needs a label and a prior with classes; got {type(self.prior).__name__} "
                f"and label {label!r}"
            )
        if label is not None:
            label = _integers(label).to(self.device)
            if label.dim() and label.shape != (count,):
                raise ValueError(
                    f"label must be one class, or one for each of {count} images; "
                    f"got {tuple(label.shape)}"
                )
            label = label.expand(count)
        return asked, label

    def traverse(
        self, image: Any, latent: int | Sequence[int], categories: Sequence[int] | None = None
    ) -> Tensor:
        """Decode the code of an image with one of its integers set to one category after another.

        Args:
            image: As in `encode`.
            latent: Which integer: its number in [0, L), or its place in a grid, such as
                ``(row, column)``.
            categories: What to set it to, N integers in [0, K); all K by default.

        Returns:
            Pixels in [0, 1], ``(B, N, C, H, W)``.

        Raises:
            ValueError: The images are of another shape than the network's, there is no such
                integer, or no such category.
        """
        shape, count = self.index_shape, self.num_codes
        place: tuple[int, ...] = (latent,) if isinstance(latent, int) else tuple(latent)
        if len(place) != len(shape) or not all(
            0 <= p < s for p, s in zip(place, shape, strict=True)
        ):
            raise ValueError(
                f"latent must be a place in a code of shape {shape}, counted from 0; got {latent!r}"
            )
        values = range(count) if categories is None else categories
        if not values or not all(0 <= value < count for value in values):
            raise ValueError(f"categories must be integers in [0, {count}); got {list(values)}")
        code = self.encode(self.images_of(image))
        index = code.unsqueeze(1).repeat(1, len(values), *[1] * len(shape))
        at: tuple[int | slice, ...] = (slice(None), slice(None), *place)
        index[at] = torch.tensor(list(values), device=index.device)
        pictures: Tensor = self.decode(index.flatten(0, 1)).unflatten(0, index.shape[:2])
        return pictures

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the most probable codes of a batch, integers ``(B, ...)``."""
        return self.encode(batch)

    def _check_codes(self, index: Tensor) -> None:
        if index.is_floating_point() or index.dtype == torch.bool:
            raise ValueError(f"a code must be integers; got {index.dtype}")
        if index.dim() != 1 + len(self.index_shape):
            raise self._other_shape(index)
        if index.numel() and not 0 <= int(index.min()) <= int(index.max()) < self.num_codes:
            raise ValueError(
                f"a code's integers must be in [0, {self.num_codes}); got "
                f"{int(index.min())} to {int(index.max())}"
            )

    def _evaluating(self) -> AbstractContextManager[None]:
        return evaluating(self)

    def _other_shape(self, index: Tensor) -> ValueError:
        wanted = f"(B, {', '.join(map(str, self.index_shape))})"
        return ValueError(f"codes must be of shape {wanted}; got {tuple(index.shape)}")


def _integers(label: Any) -> Tensor:
    many = isinstance(label, Iterable) and not isinstance(label, (Tensor, str))
    found = _tensor(list(label) if many else label)
    empty = found is not None and not found.numel()  # of an empty list torch makes floats
    if found is None or (not empty and (found.is_floating_point() or found.dtype == torch.bool)):
        raise ValueError(f"label must be integers; got {label!r}")
    return found.long()


def _booleans(mask: Any) -> Tensor:
    found = _tensor(mask)
    if found is None or found.dtype != torch.bool:
        got = repr(mask) if found is None else found.dtype
        raise ValueError(f"mask must be booleans; got {got}")
    return found


def _tensor(value: Any) -> Tensor | None:
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        return None
