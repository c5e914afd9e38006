"""The page on a port of this machine, its style, and the policy that it asks no other machine."""

from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["launch"]

_CSS = """
/* The columns of a table are places in a code: sorted, they would be those of another code. */
#code thead { pointer-events: none; }
#code .cell-menu-button { display: none !important; }
/* A label above its picture, not over it: there is something to click below. */
.framed [data-testid="block-label"] { position: static !important; }
/* As many pictures in a row as there is room for, on a screen or a phone. */
.framed .grid-wrap { min-height: 0 !important; max-height: 420px !important; }
.framed .grid-container { grid-template-columns: repeat(auto-fill, minmax(96px, 1fr)) !important;
  padding-top: 4px !important; }
.framed .caption-label { font-size: 11px !important; padding: 0 4px !important; max-width: 100%; }
#thumbnails .grid-container { grid-template-columns: repeat(auto-fill, minmax(66px, 1fr))
  !important; }
#thumbnails .grid-wrap { max-height: 232px !important; }
#canvas img, #palette img { cursor: crosshair; touch-action: manipulation; }
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
