"""Pictures of events of real values that are not images: curves over columns or over time."""

import math
from collections.abc import Mapping

from PIL import Image
from torch import Tensor

from dvae.plotting import COLOURS, in_style, new_figure, to_image

__all__ = ["event_curves"]

_PER_ROW = 4
# The first of several, which is what the others are compared with.
_INPUT = "#999999"


@in_style
def event_curves(rows: Mapping[str, Tensor], title: str) -> Image.Image:
    """Draw a panel for each example, with a curve of each kind for each channel.

    Args:
        rows: Events by name, each ``(N, D)`` or ``(N, C, T)``, N at least 1; example n of each is
            in panel n.
        title: Title above all panels.
    """
    values = {name: event.detach().float().cpu() for name, event in rows.items()}
    count = len(next(iter(values.values())))
    lines = math.ceil(count / _PER_ROW)
    figure = new_figure(3 * _PER_ROW, 0.7 + 1.5 * lines, title)
    panels = figure.subplots(lines, _PER_ROW, squeeze=False, sharex=True, sharey=True).flat
    colours = (_INPUT, *COLOURS) if len(values) > 1 else COLOURS
    for place, axes in enumerate(panels):
        if place >= count:
            axes.set_axis_off()
            continue
        for (name, event), colour in zip(values.items(), colours, strict=False):
            channels = event[place].reshape(-1, event.shape[-1]).T.numpy()
            drawn = axes.plot(channels, color=colour, linewidth=1.1)
            drawn[0].set_label(name)
    if len(values) > 1:
        figure.legend(
            *figure.axes[0].get_legend_handles_labels(), loc="upper right", ncols=len(values)
        )
    return to_image(figure)
