"""The picture of a tuner: the gradient's error over temperature and step, and the path taken."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from dvae.plotting import in_style, new_figure

__all__ = ["draw_errors"]

# From an error this little above the least of its step on, colours differ.
_LEAST = 1e-2


@in_style
def draw_errors(
    taus: Sequence[float], history: Sequence[Sequence[float]], name: str = "tau"
) -> Figure:
    r"""Draw errors above the least of their step, which is the valley, and the temperature in it.

    Args:
        taus: T temperatures, ascending.
        history: For each measurement the step, the temperature of that step and the errors at the
            T temperatures, nats squared per example.
        name: Name of the temperature.
    """
    figure = new_figure(7.5, 4.2, "Squared error of the gradient, above the least at that step")
    axes = figure.subplots()
    axes.set(xlabel="optimizer step", ylabel=name, yscale="log")
    if len(history) > 1:
        table = np.array(history, dtype=float)
        step, chosen, errors = table[:, 0], table[:, 1], table[:, 2:]
        above = errors - errors.min(1, keepdims=True)
        # In parts of what the middle of a step's temperatures is above the least.
        above /= np.maximum(np.median(above, 1, keepdims=True), 1e-30)
        norm = LogNorm(_LEAST, 100)
        mesh = axes.pcolormesh(
            step, taus, above.T.clip(_LEAST), norm=norm, cmap="viridis_r", shading="nearest"
        )
        figure.colorbar(mesh, ax=axes, label="error above the least / median of it")
        axes.plot(step, np.array(taus)[errors.argmin(1)], ".", ms=2, color="white", label="least")
        axes.plot(step, chosen, color="#d55e00", lw=2, label="chosen")
        legend = axes.legend(loc="upper right", frameon=True)
        legend.get_frame().set_alpha(0.7)
    axes.set_yticks(taus, [f"{tau:.2g}" for tau in taus])
    axes.minorticks_off()
    return figure
