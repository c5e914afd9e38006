"""The page: Gradio's parts laid over `Explorer`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr
from PIL import Image

from dvae.explore.canvas import larger
from dvae.explore.layout import PAINT, Parts, lay_out
from dvae.explore.serve import launch
from dvae.explore.shown import THUMBNAILS, canvas, pictures, plain, shown
from dvae.explore.view import STEPS, Explorer, View
from dvae.plotting import tiled

__all__ = ["launch", "make_page"]


# One after another: else two clicks in quick succession would both start from the same view.
_IN_TURN: dict[str, Any] = {"show_progress": "hidden", "concurrency_id": "view"}


def make_page(explorer: Explorer) -> Any:
    """Lay out the page and connect its parts.

    Args:
        explorer: What the page shows and does.

    Returns:
        The ``gradio.Blocks``.
    """
    with gr.Blocks(title="dvae: latent explorer", analytics_enabled=False) as page:
        _connect(page, explorer, *lay_out(explorer, explorer.start()))
    return page


def _connect(page: Any, explorer: Explorer, parts: Parts, asked: Parts) -> None:
    state, outputs = parts["state"], list(parts.values())

    def show(view: View, before: View | None = None) -> dict[Any, Any]:
        found = shown(explorer, view, before)
        return {parts[name]: value for name, value in found.items()}

    def step(act: Callable[..., View], view: View, *values: Any) -> dict[Any, Any]:
        """Act on the view; where that fails, say why and show what was there."""
        try:
            return show(act(view, *values), view)
        except (ValueError, OSError) as error:
            gr.Warning(plain(" ".join(str(error).split())))
            return show(view, view)

    def on(event: Any, act: Callable[..., View], *inputs: Any) -> None:
        # A slider in motion: what is shown at last is where it stopped.
        event(partial(step, act), [state, *inputs], outputs, trigger_mode="always_last", **_IN_TURN)

    def on_choice(event: Any, act: Callable[..., View], *inputs: Any) -> None:
        def chosen(view: View, cell: gr.SelectData, *values: Any) -> dict[Any, Any]:
            return step(act, view, cell.index, *values)

        event(chosen, [state, *inputs], outputs, **_IN_TURN)

    page.load(show, [state], outputs, **_IN_TURN)
    on(parts["image"].submit, explorer.pick_image, parts["image"])
    on(asked["previous"].click, _turned(explorer, -THUMBNAILS))
    on(asked["next"].click, _turned(explorer, THUMBNAILS))
    on(asked["file"].upload, explorer.upload, asked["file"])
    on(asked["checkpoint"].input, explorer.pick_checkpoint, asked["checkpoint"])
    on(parts["position"].input, explorer.pick_position, parts["position"])
    on(parts["category"].input, explorer.set_category, parts["category"])
    on(parts["table"].input, explorer.edit_table, parts["table"])
    on(asked["undo"].click, explorer.undo)
    on(asked["back"].click, explorer.take_back)
    on(asked["keep"].click, explorer.keep)
    on(asked["again"].click, explorer.redraw, asked["last"], *asked["how"])
    on_choice(parts["thumbnails"].select, partial(_pick_thumbnail, explorer))
    on_choice(parts["table"].select, lambda view, cell: explorer.pick_cell(view, *cell))
    on_choice(parts["alternatives"].select, explorer.put_alternative)
    on_choice(asked["steps"].select, explorer.pick_step)
    if "canvas" in parts:
        on(asked["own size"].input, explorer.set_own_size, asked["own size"])
        asked["opacity"].input(
            partial(_cover, explorer),
            [state, asked["opacity"]],
            [state, parts["canvas"]],
            trigger_mode="always_last",
            **_IN_TURN,
        )
        on(parts["brush"].input, explorer.set_brush, parts["brush"])
        on(asked["painting"].select, explorer.open_palette)
        on_choice(parts["canvas"].select, partial(_click, explorer), asked["tool"], asked["width"])
        on_choice(parts["palette"].select, lambda view, at: explorer.pick_from_palette(view, *at))
    asked["draw"].click(partial(_draw, explorer), [state, *asked["how"]], [asked["drawn"]])
    asked["walk"].click(partial(_walk, explorer), [state], [asked["steps"]])


# What a visitor does, beside what `Explorer` has under the same name


def _turned(explorer: Explorer, by: int) -> Callable[[View], View]:
    def turned(view: View) -> View:
        return explorer.pick_image(view, min(max(view.row + by, 0), explorer.gallery.size - 1))

    return turned


def _pick_thumbnail(explorer: Explorer, view: View, number: int) -> View:
    return explorer.pick_image(view, view.row // THUMBNAILS * THUMBNAILS + number)


def _click(explorer: Explorer, view: View, at: Any, tool: str, width: int) -> View:
    x, y = at
    return explorer.click(view, x, y, width if tool == PAINT else None)


def _cover(explorer: Explorer, view: View, opacity: float) -> tuple[View, Image.Image]:
    covered = explorer.set_opacity(view, opacity)
    return covered, canvas(explorer, covered)


def _draw(explorer: Explorer, view: View, *how: Any) -> Image.Image:
    return larger(tiled(explorer.draw(view, *how).nan_to_num(), 8), 1024)


def _walk(explorer: Explorer, view: View) -> Any:
    try:
        return pictures(explorer.between(view), lambda n: f"{n / (STEPS - 1):.0%}")
    except ValueError as error:
        gr.Warning(plain(str(error)))
        return gr.skip()
