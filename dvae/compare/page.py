"""One page that needs nothing else: the table and the curves, on light and on dark screens."""

import base64
import io
import re
from collections.abc import Iterable
from html import escape
from pathlib import Path
from string import Template

from matplotlib.figure import Figure

from dvae.compare.results import Result
from dvae.compare.table import Comparison, figure_text
from dvae.plotting import COLOURS, Style, in_style, line_styles

__all__ = ["page"]

# COLOURS, lightened for a dark screen, in their order.
_ON_DARK = ("#4aa8e8", "#ff8b4a", "#2fc79c", "#e6a3c8", "#a6dcff", "#ffc14d")

_MARKS = (
    "↑ higher is better, ↓ lower is better, →0 nearer to zero is better; the best is bold. "
    "—: not there."
)

# Pictures that runs draw of the same images, and what stands above them.
_PICTURES = (("reconstructions", "Reconstructions"), ("samples", "Samples"))
_PNG = b"\x89PNG\r\n\x1a\n"


def page(comparison: Comparison, curves: Figure) -> str:
    """Write the page.

    Args:
        comparison: Comparison of the runs.
        curves: Figure of `draw_curves`.

    Returns:
        HTML that loads nothing; all that came from the runs is escaped.
    """
    count = len(comparison.runs)
    settings = (
        _row(escape(key), ((_breakable(value), "") for value in values))
        for key, values in comparison.differing.items()
    )
    folders = _row("folder", ((_breakable(str(run.folder)), "") for run in comparison.runs))
    template = Template(Path(__file__).with_suffix(".html").read_text(encoding="utf-8"))
    return template.substitute(
        title=f"{count} runs side by side" if count > 1 else "One run",
        light=_variables(COLOURS),
        dark=_variables(_ON_DARK),
        columns=count + 1,
        heads="".join(_heads(comparison)),
        differ="Where their settings differ" if comparison.differing else "No settings differ",
        settings="\n".join([*settings, folders]),
        results="\n".join(map(_result_row, comparison.results)),
        marks=_MARKS if count > 1 else "",
        warning=escape(comparison.warning),
        curves=_svg(curves),
        pictures="\n".join(_pictures(comparison, *kind) for kind in _PICTURES),
    )


def _pictures(comparison: Comparison, name: str, title: str) -> str:
    """Put the last picture of each run side by side, in the page itself; nothing without one."""
    figures = []
    for run, label in zip(comparison.runs, comparison.labels, strict=True):
        path = run.picture(name)
        content = b"" if path is None else path.read_bytes()
        # What is no PNG is no picture of a run.
        if path is not None and content.startswith(_PNG):
            step = int(path.stem.removeprefix("step_"))
            data = base64.b64encode(content).decode()
            figures.append(
                f"<figure><figcaption>{escape(label)}, step {step}</figcaption>"
                f'<img alt="{title}" src="data:image/png;base64,{data}"></figure>'
            )
    return f'<h2>{title}</h2>\n<div class="pictures">{"".join(figures)}</div>' if figures else ""


def _heads(comparison: Comparison) -> Iterable[str]:
    styles = line_styles(len(comparison.runs))
    for label, style in zip(comparison.labels, styles, strict=True):
        # The curves of a run that is alone have the colours of their metrics.
        yield f'<th scope="col">{_swatch(style) if len(styles) > 1 else ""}{escape(label)}</th>'


def _swatch(style: Style) -> str:
    dash = ""
    if style["linestyle"] != "-":
        lengths = " ".join(f"{2 * length:g}" for length in style["linestyle"][1])
        dash = f' stroke-dasharray="{lengths}"'
    return (
        '<svg class="swatch" viewBox="0 0 48 8" aria-hidden="true">'
        f'<line x1="0" y1="4" x2="48" y2="4" stroke-width="4"{dash} '
        f'style="stroke: {_variable(style["color"])}"/></svg>'
    )


def _row(head: str, cells: Iterable[tuple[str, str]]) -> str:
    row = "".join(
        f'<td class="{kind}">{text}</td>' if kind else f"<td>{text}</td>" for text, kind in cells
    )
    return f'<tr><th scope="row">{head}</th>{row}</tr>'


def _result_row(result: Result) -> str:
    mark = " ".join(part for part in (result.note, result.better.value) if part)
    return _row(
        f'{escape(result.name)} <span class="mark">{mark}</span>',
        (
            (figure_text(value), "best" if best else "")
            for value, best in zip(result.values, result.best, strict=True)
        ),
    )


def _breakable(text: str) -> str:
    """Escape a text, and let a path go on in the next line after a slash."""
    return escape(text).replace("/", "/<wbr>")


def _variable(colour: str) -> str:
    return f"var(--run-{COLOURS.index(colour)})"


def _variables(colours: Iterable[str]) -> str:
    return " ".join(f"--run-{number}: {colour};" for number, colour in enumerate(colours))


@in_style
def _svg(figure: Figure) -> str:
    """Return the figure as SVG whose colours are the page's."""
    file = io.StringIO()
    nobody = {"Creator": None, "Date": None, "Format": None, "Type": None}
    figure.savefig(file, format="svg", transparent=True, metadata=nobody)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = text.replace("#000000", "currentColor")
    for colour in COLOURS:
        text = re.sub(rf"{colour}\b(?=[;\" ])", _variable(colour), text)
    return text
