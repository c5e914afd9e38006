"""The parts of the page and where they lie."""

import math
from typing import Any

import gradio as gr

from dvae.data.images import class_name
from dvae.explore.codes import table_of
from dvae.explore.prior import can_redraw, in_raster_order
from dvae.explore.shown import headers, plain
from dvae.explore.view import Explorer, View
from dvae.models import DiscreteVAE
from dvae.models.samples import sample_name

__all__ = ["PAINT", "Parts", "lay_out"]

PAINT = "paint with the brush"
"""What a click on the picture does, if not to choose a place."""

Parts = dict[str, Any]
"""Parts of the page by name."""

# More checkpoints than this are a list to open.
_BUTTONS = 12
_CHOOSE = "choose a place"


def lay_out(explorer: Explorer, first: View) -> tuple[Parts, Parts]:
    """Lay out all parts, in the ``gradio.Blocks`` that is open.

    Args:
        explorer: What the page shows and does.
        first: What is shown first.

    Returns:
        The parts that show a view, named as `dvae.explore.shown.shown` does, and all others.
    """
    model = explorer.model(first)
    parts: Parts = {"state": gr.State(first)}
    asked: Parts = {}
    only = explorer.snapshots[first.number].title if len(explorer.snapshots) == 1 else ""
    about = [type(model).__name__, explorer.gallery.name, only]
    gr.Markdown(f"## Latent explorer\n{plain(', '.join(filter(None, about)))}")
    asked["checkpoint"] = _checkpoints(explorer, first)
    _images(explorer, parts, asked)
    _pictures(explorer, parts, asked)
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            parts["words"] = gr.Markdown(elem_id="words")
            parts["numbers"] = gr.Markdown(elem_id="numbers")
        with gr.Column(scale=3, min_width=300):
            parts["alternatives"] = _gallery("alternatives", _title(model))
    with gr.Tabs(overflow_behavior="wrap"):
        if explorer.grid:
            with gr.Tab("Paint") as asked["painting"]:
                _paint(model, parts, asked)
        with gr.Tab("Numbers"):
            _numbers(model, table_of(explorer.changed(first)), parts)
        with gr.Tab("Interpolate"):
            _interpolate(parts, asked)
        with gr.Tab("Draw"):
            _prior(explorer, model, asked)
    return parts, asked


def _checkpoints(explorer: Explorer, view: View) -> Any:
    choices = [(snapshot.title, n) for n, snapshot in enumerate(explorer.snapshots)]
    choose = gr.Radio if len(choices) <= _BUTTONS else gr.Dropdown
    # One alone stands in the title.
    return choose(
        choices,
        value=view.number,
        label="Checkpoint",
        elem_id="checkpoint",
        visible=len(choices) > 1,
    )


def _images(explorer: Explorer, parts: Parts, asked: Parts) -> None:
    parts["thumbnails"] = _gallery("thumbnails", "Images")
    with gr.Row(equal_height=True):
        asked["previous"] = _button("Previous", "previous")
        asked["next"] = _button("Next", "next")
        parts["image"] = _number("Image", "image", explorer.gallery.size)
        asked["file"] = gr.UploadButton("Upload an image", file_types=["image"], min_width=140)
        if explorer.grid:
            asked["own size"] = gr.Checkbox(
                True, label="Keep the size of uploads", elem_id="own-size", min_width=140
            )


def _pictures(explorer: Explorer, parts: Parts, asked: Parts) -> None:
    with gr.Row():
        if explorer.grid:
            with gr.Column(scale=1, min_width=320):
                parts["canvas"] = _frame("canvas", "Code over the image: click a place")
                asked["opacity"] = gr.Slider(
                    *(0.0, 1.0, 0.5),
                    step=0.05,
                    label="Image (0) or code (1)",
                    elem_id="opacity",
                    buttons=[],
                )
                asked["tool"] = gr.Radio(
                    [_CHOOSE, PAINT], value=_CHOOSE, label="A click is to", elem_id="tool"
                )
        with gr.Column(scale=1, min_width=320):
            with gr.Row():
                parts["original"] = _frame("original", "Original")
                parts["reconstruction"] = _frame("reconstruction", "Reconstruction")
            with gr.Row():
                parts["decoded"] = _frame("decoded", "Decoded (changed code)")
                parts["difference"] = _frame("difference", "What changed")
            with gr.Row():
                asked["undo"] = _button("Undo the last", "undo")
                asked["back"] = _button("Undo all changes", "back")


def _paint(model: DiscreteVAE, parts: Parts, asked: Parts) -> None:
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            gr.Markdown(
                f"Take up a code here, or from the image by choosing a place. Then set *A click is "
                f"to* to *{PAINT}*, and click on the image."
            )
            parts["brush"] = _number("Brush: number of the code", "brush", model.num_codes)
            asked["width"] = gr.Slider(
                *(1, 9, 1), step=2, label="Width in places", elem_id="width", buttons=[]
            )
        with gr.Column(scale=2, min_width=320):
            parts["palette"] = _frame("palette", "All codes, from dark to bright")


def _numbers(model: DiscreteVAE, table: list[list[int]], parts: Parts) -> None:
    shape, size = model.index_shape, math.prod(model.index_shape)
    what = "the category of each latent" if len(shape) == 1 else "the grid of categories"
    parts["table"] = gr.Dataframe(
        table,
        headers=headers(shape),
        datatype="number",
        type="array",
        interactive=True,
        label=f"Code, {what}: click one to choose it, double-click it to type another",
        elem_id="code",
        show_row_numbers=False,
        buttons=["copy"],
    )
    with gr.Row():
        if len(shape) == 1:
            parts["position"] = _slider("Latent to change", "position", size)
        else:
            # Of another image the grid may have more places.
            parts["position"] = _number("Place, row by row", "position")
        parts["category"] = _slider("Its category", "category", model.num_codes)


def _interpolate(parts: Parts, asked: Parts) -> None:
    gr.Markdown(
        "Keep the code that is shown, choose another image, and go from that one's code to the "
        "kept one. Click a step to take it over."
    )
    with gr.Row():
        with gr.Column(scale=1, min_width=200):
            asked["keep"] = _button("Keep this code", "keep")
            parts["kept"] = _frame("kept", "Kept")
            asked["walk"] = _button("Interpolate", "walk")
        with gr.Column(scale=4, min_width=320):
            asked["steps"] = _gallery("steps", "From the code that is shown to the kept one")


def _prior(explorer: Explorer, model: DiscreteVAE, asked: Parts) -> None:
    prior, size = model.prior, math.prod(model.index_shape)
    gr.Markdown(f"### Draw from {type(prior).__name__}")
    with gr.Row(equal_height=True):
        how: list[Any] = [
            gr.Slider(0.1, 2.0, 1.0, step=0.05, label="Temperature", elem_id="temperature")
        ]
        if prior.num_classes:
            names = explorer.gallery.class_names
            classes = [(str(class_name(n, names)), n) for n in range(prior.num_classes)]
            how += [
                gr.Dropdown([("none", -1), *classes], value=-1, label="Class", elem_id="class"),
                gr.Slider(0.0, 4.0, 0.0, step=0.1, label="Guidance", elem_id="guidance"),
            ]
        asked["how"], asked["draw"] = how, _button("Draw images", "draw")
    with gr.Row(equal_height=True, visible=can_redraw(model)):
        if in_raster_order(model):
            last, name = gr.State(size - 1), "Redraw the code from the chosen place on"
        else:
            last = _slider("Redraw from the chosen place to the place", "last", size, scale=3)
            name = "Redraw the region"
        asked["last"], asked["again"] = last, _button(name, "again")
    asked["drawn"] = _frame("drawn", sample_name(model).capitalize())


def _title(model: DiscreteVAE) -> str:
    order = "the most probable" if model.bottleneck.has_posterior else "the nearest"
    return f"The chosen place with other codes, {order} first: click one to put it there"


def _button(text: str, name: str) -> Any:
    return gr.Button(text, elem_id=name, scale=1, min_width=120)


def _number(label: str, name: str, size: int | None = None) -> Any:
    if size is not None:
        label = f"{label}, 0 to {size - 1}"
    # Without limits: a number out of range is refused in our words, and what was there stays.
    return gr.Number(0, label=label, elem_id=name, min_width=140)


def _slider(label: str, name: str, size: int, scale: int = 1) -> Any:
    slider = gr.Slider(0, size - 1, 0, step=1, label=label, elem_id=name, scale=scale, buttons=[])
    # As in `_number`.
    slider.preprocess = lambda payload: payload  # type: ignore[method-assign]
    return slider


def _frame(name: str, label: str) -> Any:
    return gr.Image(
        label=label,
        elem_id=name,
        elem_classes="framed",
        alt_text=label,
        format="png",
        interactive=False,
        min_width=140,
        buttons=["download"],
    )


def _gallery(name: str, label: str) -> Any:
    return gr.Gallery(
        label=label,
        elem_id=name,
        elem_classes="framed",
        format="png",
        height="auto",
        object_fit="contain",
        allow_preview=False,
        interactive=False,
        buttons=[],
    )
