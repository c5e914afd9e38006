"""The page: Gradio's parts laid over `Explorer`."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr
from PIL import Image
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from torch import Tensor

from dvae.explore.codes import Look, place_name, table_of
from dvae.explore.prior import can_redraw, in_raster_order
from dvae.explore.view import Explorer, View
from dvae.models import DiscreteVAE
from dvae.models.samples import sample_name
from dvae.plotting import tiled, to_images

__all__ = ["launch", "make_page"]

# Pictures are enlarged by a whole number to about this height.
_HEIGHT = 252
# More checkpoints than this are a list to open.
_BUTTONS = 12
# More changes than this are counted and not listed.
_LISTED = 12
# The columns of a table are places in a code: sorted, they would be those of another code.
_CSS = """
#code thead { pointer-events: none; }
#code .cell-menu-button { display: none !important; }
"""
# Whatever the page names, a browser asks nobody but this server.
_POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; base-uri 'self'; "
    "frame-ancestors 'self'; form-action 'self'"
)


class _LocalOnly:
    """Adds the policy to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", _POLICY.encode())
                message = {**message, "headers": [*message["headers"], policy]}
            await send(message)

        await self.app(scope, receive, send_with_policy)


def launch(page: Any, host: str, port: int) -> str:
    """Serve a page, without waiting for its end.

    Args:
        page: Page of `make_page`.
        host: Address to listen on.
        port: Port to listen on.

    Returns:
        The address of the page.
    """
    _, url, _ = page.launch(
        server_name=host,
        server_port=port,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        ssr_mode=False,
        mcp_server=False,
        run_history=False,
        footer_links=[],
        max_file_size="50mb",
        theme=gr.themes.Base(
            font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        ),
        css=_CSS,
        app_kwargs={"middleware": [Middleware(_LocalOnly)]},
    )
    return str(url)


def make_page(explorer: Explorer) -> Any:
    """Lay out the page and connect its parts.

    Args:
        explorer: What the page shows and does.

    Returns:
        The ``gradio.Blocks``.
    """
    first = explorer.start()
    model = explorer.model(first)

    def pick_cell(view: View, cell: gr.SelectData) -> list[Any]:
        return _step(explorer, explorer.pick_cell, view, *cell.index)

    with gr.Blocks(title="dvae: latent explorer", analytics_enabled=False) as page:
        state = gr.State(first)
        gr.Markdown(f"## Latent explorer\n{type(model).__name__}, {_plain(explorer.gallery.name)}")
        checkpoint = _checkpoints(explorer, first)
        with gr.Row(equal_height=True):
            image = _slider("Image", "image", explorer.gallery.size, scale=4)
            file = gr.UploadButton("Upload an image", file_types=["image"], scale=1)
        with gr.Row():
            pictures = [
                _frame(name, label)
                for name, label in (
                    ("original", "Original"),
                    ("reconstruction", "Reconstruction (unchanged code)"),
                    ("decoded", "Decoded (changed code)"),
                )
            ]
        with gr.Row():
            numbers = gr.Markdown(elem_id="numbers")
            words = gr.Markdown(elem_id="words")
        table = _table(model, table_of(explorer.look(first).code))
        with gr.Row(equal_height=True):
            latents = len(model.index_shape) == 1
            label = "Latent to change" if latents else "Position to change, row by row"
            position = _slider(label, "position", math.prod(model.index_shape), scale=3)
            category = _slider("Its category", "category", model.num_codes, scale=3)
            back = gr.Button("Undo changes", elem_id="back", scale=1, min_width=160)

        asked, draw, last, again, drawn = _prior_part(model)

        outputs = [state, image, *pictures, table, position, category, numbers, words]
        page.load(partial(_show, explorer), [state], outputs, show_progress="hidden")
        for event, act, inputs in (
            (image.input, explorer.pick_image, [image]),
            (file.upload, explorer.upload, [file]),
            (checkpoint.input, explorer.pick_checkpoint, [checkpoint]),
            (position.input, explorer.pick_position, [position]),
            (category.input, explorer.set_category, [category]),
            (table.input, explorer.edit_table, [table]),
            (back.click, explorer.take_back, []),
            (again.click, explorer.redraw, [last, *asked]),
        ):
            # A slider in motion: what is shown at last is where it stopped.
            event(
                partial(_step, explorer, act),
                [state, *inputs],
                outputs,
                trigger_mode="always_last",
                show_progress="hidden",
            )
        table.select(pick_cell, [state], outputs, show_progress="hidden")
        draw.click(partial(_draw, explorer), [state, *asked], [drawn])
    return page


def _prior_part(model: DiscreteVAE) -> tuple[list[Any], Any, Any, Any, Any]:
    """Lay out what is asked of the prior.

    Returns:
        The parts of an `Asked`, the button that draws images, the other corner of a region, the
        button that draws it anew, and the images.
    """
    prior, size = model.prior, math.prod(model.index_shape)
    gr.Markdown(f"### Draw from {type(prior).__name__}")
    with gr.Row(equal_height=True):
        asked: list[Any] = [
            gr.Slider(0.1, 2.0, 1.0, step=0.05, label="Temperature", elem_id="temperature")
        ]
        if prior.num_classes:
            classes = [("none", -1), *((str(n), n) for n in range(prior.num_classes))]
            asked += [
                gr.Dropdown(classes, value=-1, label="Class", elem_id="class"),
                gr.Slider(0.0, 4.0, 0.0, step=0.1, label="Guidance", elem_id="guidance"),
            ]
        draw = gr.Button("Draw images", elem_id="draw", scale=1, min_width=160)
    with gr.Row(equal_height=True, visible=can_redraw(model)):
        if in_raster_order(model):
            last, name = gr.State(size - 1), "Redraw the code from the chosen place on"
        else:
            last = _slider("Redraw from the chosen place to the place", "last", size, scale=3)
            name = "Redraw the region"
        again = gr.Button(name, elem_id="again", scale=1, min_width=160)
    return asked, draw, last, again, _frame("drawn", sample_name(model).capitalize())


def _draw(explorer: Explorer, view: View, *asked: Any) -> Image.Image:
    images = explorer.draw(view, *asked)
    return _enlarged(tiled(images.nan_to_num(), 8))


def _step(explorer: Explorer, act: Callable[..., View], view: View, *values: Any) -> list[Any]:
    """Act on the view; where that fails, say why and show what was there."""
    try:
        return _show(explorer, act(view, *values))
    except (ValueError, OSError) as error:
        gr.Warning(_plain(" ".join(str(error).split())))
        return _show(explorer, view)


def _show(explorer: Explorer, view: View) -> list[Any]:
    """Return the view and what each part of the page shows of it, in the order of `make_page`."""
    seen = explorer.look(view)
    return [
        view,
        view.row,
        *(_picture(x) for x in (seen.original, seen.reconstruction, seen.decoded)),
        table_of(seen.changed),
        view.position,
        int(seen.changed.view(-1)[view.position]),
        _numbers(seen),
        _words(explorer.model(view), view, seen),
    ]


def _checkpoints(explorer: Explorer, view: View) -> Any:
    choices = [(snapshot.title, n) for n, snapshot in enumerate(explorer.snapshots)]
    choose = gr.Radio if len(choices) <= _BUTTONS else gr.Dropdown
    return choose(choices, value=view.number, label="Checkpoint", elem_id="checkpoint")


def _slider(label: str, name: str, size: int, scale: int) -> Any:
    slider = gr.Slider(0, size - 1, 0, step=1, label=label, elem_id=name, scale=scale, buttons=[])
    # A number out of range is refused in our words, and what was there is shown again.
    slider.preprocess = lambda payload: payload  # type: ignore[method-assign]
    return slider


def _frame(name: str, label: str) -> Any:
    return gr.Image(
        label=label,
        elem_id=name,
        alt_text=label,
        format="png",
        height=_HEIGHT + 76,
        interactive=False,
        buttons=["download"],
    )


def _table(model: DiscreteVAE, table: list[list[int]]) -> Any:
    shape = model.index_shape
    what = "the category of each latent" if len(shape) == 1 else "the grid of categories"
    return gr.Dataframe(
        table,
        headers=_headers(len(table[0]), shape),
        datatype="number",
        type="array",
        interactive=True,
        label=f"Code, {what}: click one to choose it, double-click it to type another",
        elem_id="code",
        show_row_numbers=False,
        buttons=["copy"],
    )


def _headers(columns: int, shape: tuple[int, ...]) -> list[str]:
    if len(shape) < 3:
        return [str(n) for n in range(columns)]
    return [f"{n // shape[2]}.{n % shape[2]}" for n in range(columns)]


def _picture(image: Tensor) -> Image.Image:
    (picture,) = to_images(image.nan_to_num().unsqueeze(0))
    return _enlarged(picture)


def _enlarged(picture: Image.Image) -> Image.Image:
    zoom = max(1, _HEIGHT // picture.height)
    size = (picture.width * zoom, picture.height * zoom)
    enlarged: Image.Image = picture.resize(size, Image.Resampling.NEAREST)
    return enlarged


def _numbers(seen: Look) -> str:
    lines = ["| nats | unchanged code | changed code |", "|---|---:|---:|"]
    if seen.log_q is not None:
        lines.append(f"| log q(code \\| x) | {seen.log_q[0]:.2f} | {seen.log_q[1]:.2f} |")
    lines.append(f"| log p(x \\| code) | {seen.log_px[0]:.2f} | {seen.log_px[1]:.2f} |")
    return "\n".join(lines)


def _words(model: DiscreteVAE, view: View, seen: Look) -> str:
    code = seen.code.view(-1)
    changes = [
        f"{place_name(model, place)}: {int(code[place])} → {category}"
        for place, category in sorted(view.edits.items())
    ]
    if len(changes) > _LISTED:
        changes[_LISTED:] = [f"and {len(changes) - _LISTED} more"]
    listed = "; ".join(changes) if changes else "none"
    chosen = place_name(model, view.position)
    return f"**Image:** {_plain(view.title)}\n\n**Chosen:** {chosen}\n\n**Changes:** {listed}"


def _plain(text: str) -> str:
    # A file's name is text, not Markdown or HTML.
    return "".join(c if c.isalnum() or c in " .,-/" else f"&#{ord(c)};" for c in text)
