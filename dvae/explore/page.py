"""The page: Gradio's parts laid over the functions of this package."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from dvae.explore.checkpoints import Snapshot
from dvae.explore.codes import (
    Edits,
    Look,
    change,
    check_position,
    look,
    place_name,
    read_table,
    table_of,
    whole,
)
from dvae.explore.images import Gallery, read_image

__all__ = ["launch", "make_page"]

# Pictures are enlarged by a whole number to about this height.
_HEIGHT = 252
# More checkpoints than this are a list to open.
_BUTTONS = 12
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


@dataclass(frozen=True)
class View:
    """What one visitor looks at.

    Attributes:
        image: Pixels in [0, 1], ``(C, H, W)``.
        title: What the image is called.
        row: Its number in the gallery, or that of the one before where it was uploaded.
        number: Which checkpoint.
        position: Which place of the code the sliders move, counted from 0 row by row.
        edits: What was changed in the code.
    """

    image: Tensor
    title: str
    row: int
    number: int
    position: int = 0
    edits: Edits = field(default_factory=dict)


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
        page: Of `make_page`.
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


def make_page(snapshots: Sequence[Snapshot], gallery: Gallery) -> Any:
    """Lay out the page and connect its parts.

    Args:
        snapshots: Of one run, at least one; the last is shown first.
        gallery: Images to choose from.

    Returns:
        The ``gradio.Blocks``.
    """
    model = snapshots[0].model
    size, count = math.prod(model.index_shape), model.num_codes

    def show(view: View) -> list[Any]:
        """Give every output that depends on what is looked at, in the order of `outputs`."""
        now = snapshots[view.number].model
        check_position(now, view.position)
        seen = look(now, view.image, view.edits)
        return [
            view,
            view.row,
            *(_picture(x) for x in (seen.original, seen.reconstruction, seen.decoded)),
            table_of(seen.changed),
            view.position,
            int(seen.changed.view(-1)[view.position]),
            _numbers(seen),
            _words(now, view, seen),
        ]

    def step(act: Callable[[View], View], view: View) -> list[Any]:
        """Act on the view; where that fails, say why and show what was there."""
        try:
            return show(act(view))
        except (ValueError, OSError) as error:
            gr.Warning(" ".join(str(error).split()))
            return show(view)

    def pick_image(view: View, number: Any) -> list[Any]:
        def act(old: View) -> View:
            row = whole("the image", number)
            image, title = gallery[row]
            return View(image, title, row, old.number, old.position)

        return step(act, view)

    def upload(view: View, path: str) -> list[Any]:
        def act(old: View) -> View:
            file = Path(path)
            image = read_image(file, model.image_shape)
            return View(image, f"uploaded {file.name}", old.row, old.number, old.position)

        return step(act, view)

    def pick_checkpoint(view: View, number: int) -> list[Any]:
        return step(lambda old: replace(old, number=number), view)

    def pick_position(view: View, position: Any) -> list[Any]:
        return step(lambda old: replace(old, position=whole("the position", position)), view)

    def pick_cell(view: View, cell: gr.SelectData) -> list[Any]:
        row, column = cell.index
        return pick_position(view, row * len(table_of(_code(view))[0]) + column)

    def set_category(view: View, category: Any) -> list[Any]:
        def act(old: View) -> View:
            now = snapshots[old.number].model
            value = whole("the category", category)
            return replace(old, edits=change(now, _code(old), old.edits, old.position, value))

        return step(act, view)

    def edit_table(view: View, table: list[list[Any]]) -> list[Any]:
        def act(old: View) -> View:
            return replace(old, edits=read_table(snapshots[old.number].model, _code(old), table))

        return step(act, view)

    def take_back(view: View) -> list[Any]:
        return step(lambda old: replace(old, edits={}), view)

    def _code(view: View) -> Tensor:
        return snapshots[view.number].model.encode(view.image[None])[0]

    first = View(*gallery[0], row=0, number=len(snapshots) - 1)
    start = show(first)
    with gr.Blocks(title="dvae: latent explorer", analytics_enabled=False) as page:
        state = gr.State(first)
        gr.Markdown(f"## Latent explorer\n{type(model).__name__}, {gallery.name}")
        choices = [(snapshot.title, n) for n, snapshot in enumerate(snapshots)]
        choose = gr.Radio if len(choices) <= _BUTTONS else gr.Dropdown
        checkpoint = choose(choices, value=first.number, label="Checkpoint", elem_id="checkpoint")
        with gr.Row(equal_height=True):
            number = gr.Slider(
                0,
                gallery.size - 1,
                0,
                step=1,
                label="Image",
                elem_id="image",
                scale=4,
            )
            file = gr.UploadButton("Upload an image", file_types=["image"], elem_id="upload")
        with gr.Row():
            pictures = [
                gr.Image(
                    value=picture,
                    label=label,
                    elem_id=name,
                    alt_text=label,
                    format="png",
                    height=_HEIGHT + 76,
                    interactive=False,
                    buttons=["download"],
                )
                for picture, label, name in zip(
                    start[2:5],
                    ("Original", "Reconstruction (unchanged code)", "Decoded (changed code)"),
                    ("original", "reconstruction", "decoded"),
                    strict=True,
                )
            ]
        with gr.Row():
            numbers = gr.Markdown(start[8], elem_id="numbers")
            words = gr.Markdown(start[9], elem_id="words")
        table = gr.Dataframe(
            start[5],
            headers=_headers(start[5], model.index_shape),
            datatype="number",
            type="array",
            interactive=True,
            label=_heading(model.index_shape),
            elem_id="code",
            show_row_numbers=len(model.index_shape) > 1,
            buttons=["copy"],
        )
        with gr.Row(equal_height=True):
            position = gr.Slider(
                0,
                size - 1,
                0,
                step=1,
                label=_position(model.index_shape),
                elem_id="position",
                scale=3,
            )
            category = gr.Slider(
                0,
                count - 1,
                start[7],
                step=1,
                label="Its category",
                elem_id="category",
                scale=3,
            )
            back = gr.Button("Undo all changes", elem_id="back", scale=1)

        for slider in (number, position, category):
            # A number out of range is refused below, in words and with what was there shown again.
            slider.preprocess = lambda payload: payload  # type: ignore[method-assign]
        outputs = [state, number, *pictures, table, position, category, numbers, words]
        wires: list[tuple[Any, Callable[..., list[Any]], list[Any]]] = [
            (number.input, pick_image, [state, number]),
            (file.upload, upload, [state, file]),
            (checkpoint.input, pick_checkpoint, [state, checkpoint]),
            (position.input, pick_position, [state, position]),
            (category.input, set_category, [state, category]),
            (table.select, pick_cell, [state]),
            (table.input, edit_table, [state, table]),
            (back.click, take_back, [state]),
        ]
        for event, act, inputs in wires:
            # A slider in motion: what is shown at last is where it stopped.
            event(act, inputs, outputs, trigger_mode="always_last", show_progress="hidden")
    return page


def _picture(image: Tensor) -> Image.Image:
    picture = to_pil_image(image.nan_to_num().clamp(0, 1).float())
    zoom = max(1, _HEIGHT // picture.height)
    size = (picture.width * zoom, picture.height * zoom)
    enlarged: Image.Image = picture.resize(size, Image.Resampling.NEAREST)
    return enlarged


def _headers(table: list[list[int]], shape: tuple[int, ...]) -> list[str]:
    columns = range(len(table[0]))
    if len(shape) < 3:
        return [str(n) for n in columns]
    return [f"{n // shape[2]}.{n % shape[2]}" for n in columns]


def _heading(shape: tuple[int, ...]) -> str:
    what = "the category of each latent" if len(shape) == 1 else "the grid of categories"
    return f"Code, {what}: click one to choose it, double-click it to type another"


def _position(shape: tuple[int, ...]) -> str:
    return "Latent to change" if len(shape) == 1 else "Position to change, row by row"


def _numbers(seen: Look) -> str:
    lines = ["| nats | unchanged code | changed code |", "|---|---:|---:|"]
    if seen.log_q is not None:
        lines.append(f"| log q(code \\| x) | {seen.log_q[0]:.2f} | {seen.log_q[1]:.2f} |")
    lines.append(f"| log p(x \\| code) | {seen.log_px[0]:.2f} | {seen.log_px[1]:.2f} |")
    return "\n".join(lines)


def _words(model: Any, view: View, seen: Look) -> str:
    code = seen.code.view(-1)
    changes = [
        f"{place_name(model, place)}: {int(code[place])} → {category}"
        for place, category in sorted(view.edits.items())
    ]
    listed = "; ".join(changes) if changes else "none"
    chosen = place_name(model, view.position)
    return f"**Image:** {_plain(view.title)}\n\n**Chosen:** {chosen}\n\n**Changes:** {listed}"


def _plain(text: str) -> str:
    # A file's name is text, not Markdown or HTML.
    return "".join(c if c.isalnum() or c in " .,-/" else f"&#{ord(c)};" for c in text)
