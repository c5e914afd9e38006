"""Plots of how a code is used: a map of the counts, entropies, the code book on a plane."""

import math
from typing import Any, TypeAlias

import matplotlib
import numpy as np
import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from dvae.callbacks.latent_codes import Posterior
from dvae.plotting import COLOURS, MARKED, in_style, new_figure, place_labels, to_image

__all__ = ["plot_codebook", "plot_counts", "plot_entropy", "plot_use", "principal_plane"]

_Array: TypeAlias = np.ndarray[Any, Any]

# Nats that a latent has to tell about the image to be called alive.
_INFORMATION = 0.01
# Positions or latents up to which each has a tick of its own.
_TICKS = 32
# Codes whose number is written beside them, as far as there is room.
_NUMBERED = 24
# Code books of a residual quantizer that are drawn.
_BOOKS = 4


@in_style
def plot_counts(counts: Tensor, images: int) -> Image.Image:
    """Draw how often each category of each latent is used, as a heat map.

    Args:
        counts: Images that use each category, ``(L, K)``.
        images: How many there are.
    """
    latents, codes = counts.shape
    share = np.where(counts.numpy() > 0, counts.numpy() / images, np.nan)
    # Room for the names of the axes and the bar, whatever the number of cells.
    size = (min(12, 3 + 0.35 * codes), min(10, 1.8 + 0.24 * latents))
    figure = new_figure(max(5.5, size[0]), size[1], _title("category", counts, images))
    axes = figure.add_subplot()
    drawn = axes.imshow(share, aspect="auto", cmap=_map(), vmin=0, interpolation="nearest")
    _integer_ticks(axes, codes, latents, most=_TICKS)
    axes.set(xlabel="category", ylabel="latent")
    figure.colorbar(drawn, label="fraction of images (dead: orange)")
    return to_image(figure)


@in_style
def plot_use(counts: Tensor, images: int) -> Image.Image:
    """Draw how often each code of a code book is used: a map of all codes, and the sorted curve.

    Args:
        counts: Positions that use each code, ``(books, K)``.
        images: How many there are.
    """
    codes = counts.shape[1]
    shares = _shares(counts[:_BOOKS])
    width = math.ceil(math.sqrt(codes))
    panels = len(shares) + 1
    figure = new_figure(3.6 * panels, 3.8, _title("code", counts, images))
    figure.set_layout_engine("constrained", wspace=0.08)
    *maps, curve = figure.subplots(1, panels)
    norm, label = _log_norm(shares), "fraction of positions"
    for book, (axes, share) in enumerate(zip(maps, shares, strict=True)):
        # What is no code is above all fractions, hence white; dead ones are orange.
        cells = np.full((math.ceil(codes / width), width), 2.0)
        cells.flat[:codes] = share
        cells = np.ma.masked_equal(cells, 0)
        drawn = axes.imshow(cells, cmap=_map(), norm=norm, interpolation="nearest")
        name = f"code book {book}: " if len(counts) > 1 else ""
        axes.set_title(f"{name}{(share == 0).sum()} dead (orange)")
        axes.set(xlabel=f"code, {width} in a row", ylabel="row")
        _integer_ticks(axes, *reversed(cells.shape))
        ordered = np.sort(share[share > 0])[::-1]
        places = range(1, len(ordered) + 1)
        curve.plot(places, ordered, label=f"code book {book}", marker=".")
    figure.colorbar(drawn, ax=maps, label=label, shrink=0.75).minorticks_off()
    curve.axhline(1 / codes, color="gray", linewidth=0.8, linestyle="--")
    curve.annotate(
        "uniform",
        (1.0, 1 / codes),
        xycoords=("axes fraction", "data"),
        va="bottom",
        ha="right",
        color="gray",
        fontsize=8,
    )
    curve.set(xlabel="code, by use", ylabel="fraction of positions", yscale="log")
    curve.set_xlim(0, codes + 1)
    curve.set_title("sorted; dead codes are left out")
    if len(shares) > 1:
        curve.legend()
    return to_image(figure)


@in_style
def plot_entropy(posterior: Posterior, codes: int) -> Image.Image:
    """Draw how uncertain each latent is and what it tells, in nats.

    Args:
        posterior: Entropies of latents ``(L,)``, positions ``(H, W)``, or of several integers at
            each, ``(H, W, L)``, whose nats are added.
        codes: K, whose logarithm is the most that either can be.
    """
    entropy, information = posterior.entropy.numpy(), posterior.information.numpy()
    alive = int((information > _INFORMATION).sum())
    title = (
        f"mean posterior entropy {entropy.mean():.3f} nats; {alive} of {entropy.size} "
        f"{('latents', 'positions', 'integers')[entropy.ndim - 1]} tell more than "
        f"{_INFORMATION} nats"
    )
    if entropy.ndim == 1:
        return to_image(_bars(entropy, information, codes, title))
    figure = new_figure(8.6, 4.2, title)
    panels = (("entropy of q(z|x)", entropy), ("information about the image", information))
    most = math.log(codes) * math.prod(entropy.shape[2:])
    for axes, (name, each) in zip(figure.subplots(1, 2), panels, strict=True):
        values = each if each.ndim == 2 else each.sum(-1)
        drawn = axes.imshow(values, cmap="viridis", vmin=0, interpolation="nearest")
        axes.set_title(name)
        axes.set(xlabel="column", ylabel="row")
        _integer_ticks(axes, *reversed(values.shape))
        figure.colorbar(drawn, label=f"nats per position (at most {most:.2f})")
    return to_image(figure)


def _bars(entropy: _Array, information: _Array, codes: int, title: str) -> Figure:
    figure = new_figure(max(6.5, min(14, 2 + 0.3 * len(entropy))), 3.8, title)
    axes = figure.add_subplot()
    place = np.arange(len(entropy))
    axes.bar(place, entropy, color="#BBBBBB", label="entropy of q(z|x)")
    axes.bar(
        place, information, bottom=entropy, color=COLOURS[0], label="information about the image"
    )
    axes.axhline(math.log(codes), color="black", linewidth=0.8, linestyle="--")
    axes.annotate(
        f"log {codes}", (1.0, math.log(codes)), xytext=(3, 0), textcoords="offset points",
        xycoords=("axes fraction", "data"), va="center", fontsize=8,
    )  # fmt: skip
    axes.set(xlabel="latent", ylabel="nats per latent", ylim=(0, 1.08 * math.log(codes)))
    axes.set_xlim(-0.7, len(entropy) - 0.3)
    if len(entropy) <= _TICKS:
        axes.set_xticks(place)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower right", ncols=2)
    return figure


def principal_plane(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Project vectors to the two directions of the greatest variance.

    Args:
        vectors: ``(N, D)``, finite.

    Returns:
        Coordinates ``(N, 2)``, of which the larger ones are positive, and the fraction of the
        variance on each axis, ``(2,)``.
    """
    centred = vectors.double() - vectors.double().mean(0)
    u, s, _ = torch.linalg.svd(centred, full_matrices=False)
    axes = torch.nn.functional.pad(u * s, (0, max(0, 2 - len(s))))[:, :2]
    # A direction has no sign: with one by rule, pictures of successive epochs compare.
    extreme = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    share = torch.nn.functional.pad(s.square(), (0, 2))[:2] / s.square().sum().clamp_min(1e-30)
    return axes * extreme.sign().where(extreme != 0, torch.ones(())), share


@in_style
def plot_codebook(vectors: Tensor, counts: Tensor) -> Image.Image:
    """Draw the vectors on the plane of their first principal axes, sized and coloured by use.

    Args:
        vectors: ``(books, K, D)``, finite.
        counts: Positions that use each code, ``(books, K)``.
    """
    books = vectors[:_BOOKS]
    plane, variance = principal_plane(books.flatten(0, 1))
    points = plane.view(len(books), -1, 2).numpy()
    share = _shares(counts[:_BOOKS])
    title = "code book on its first two principal axes; the most used codes are numbered"
    figure = new_figure(1.6 + 5 * len(books), 4.8, title)
    panels = list(figure.subplots(1, len(books), squeeze=False)[0])
    colours = {"norm": _log_norm(share), "cmap": "viridis"}
    for book, (axes, use, (x, y)) in enumerate(
        zip(panels, share, points.swapaxes(1, 2), strict=True)
    ):
        # The small ones on top of the large ones, and the dead on top of all.
        order = np.argsort(-use, kind="stable")
        order, dead = order[use[order] > 0], use == 0
        size = 12 + 160 * np.sqrt(use[order] / share.max())
        look = {"alpha": 0.85, "linewidths": 0}
        drawn = axes.scatter(x[order], y[order], s=size, c=use[order], **colours, **look)
        axes.scatter(x[dead], y[dead], s=16, marker="x", linewidths=0.8, color=MARKED)
        axes.margins(0.12)  # so that the words at the edge do not cross it
        name = f"code book {book}: " if len(books) > 1 else ""
        axes.set_title(f"{name}{dead.sum()} dead (orange crosses)")
        axes.set_xlabel(f"first axis ({variance[0]:.0%} of the variance)")
        axes.set_ylabel(f"second axis ({variance[1]:.0%} of the variance)")
    bar = figure.colorbar(drawn, ax=panels, label="fraction of positions", pad=0.02)
    bar.minorticks_off()
    # Words are placed by what is where on the paper, so the layout has to be final.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for axes, use, at in zip(panels, share, points, strict=True):
        order = np.argsort(-use, kind="stable")
        words = [str(k) if n < _NUMBERED and use[k] > 0 else "" for n, k in enumerate(order)]
        labels = zip(*at[order].T.tolist(), words, strict=True)
        place_labels(axes, [(x, y, word, "black") for x, y, word in labels])
    return to_image(figure)


def _shares(counts: Tensor) -> _Array:
    """Divide counts ``(books, K)`` by their sum in each book."""
    shares: _Array = (counts.double() / counts.sum(1, keepdim=True).clamp_min(1)).numpy()
    return shares


def _log_norm(share: _Array) -> LogNorm:
    low = share[share > 0].min()
    return LogNorm(low, max(share.max(), 1.01 * low))


def _title(what: str, counts: Tensor, images: int) -> str:
    dead = int((counts == 0).sum())
    return f"{what} use over {images} validation images: {dead} of {counts.numel()} dead"


def _map() -> Any:
    return matplotlib.colormaps["viridis"].with_extremes(bad=MARKED, over="white")


def _integer_ticks(axes: Any, columns: int, rows: int, most: int = 8) -> None:
    for axis, count in ((axes.xaxis, columns), (axes.yaxis, rows)):
        axis.set_ticks(range(0, count, max(1, math.ceil(count / most))))
