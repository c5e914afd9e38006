"""What mkdocs does not do by itself: files of the repository in the site, equations as MathML.

A page says ``../benchmarks/results/x.png``, which is right where the repository is looked at. The
site gets the file, at the same place below its root. Equations need no script from anywhere.
"""

import re
from html import unescape
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

# A relative link; without the part behind a #.
LINK = re.compile(r"(?<=\]\()\.\./[^)\s#]+")
# What arithmatex makes of $x$ and $$x$$, and what is left of the docstrings' :math:`x`.
EQUATION = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<arithmatex>.*?)\\[)\]]</(?P=tag)>'
    r"|:math:<code>(?P<role>.*?)</code>",
    re.DOTALL,
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Take the files of the repository that pages link to into the site."""
    root = Path(config.docs_dir).parent
    for page in list(files.documentation_pages()):
        folder = Path(page.abs_src_path).parent
        for link in LINK.findall(page.content_string):
            path = (folder / link).resolve()
            if path.is_relative_to(config.docs_dir) or not path.is_file():
                continue  # mkdocs looks after its own, and says what is not there
            uri = path.relative_to(root).as_posix()
            if files.get_file_from_path(uri) is None:
                files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Point the links that leave the folder of the pages to where the site has the files."""
    docs = Path(config.docs_dir)
    folder = docs / Path(page.file.src_uri).parent

    def pointed(match: re.Match[str]) -> str:
        inside = (folder / match[0]).resolve().is_relative_to(docs)
        return match[0] if inside else match[0].removeprefix("../")

    return LINK.sub(pointed, markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Write every equation in MathML, which browsers show by themselves."""

    def written(match: re.Match[str]) -> str:
        display = "block" if match["tag"] == "div" else "inline"
        return convert(unescape(match["arithmatex"] or match["role"]), display=display)

    return EQUATION.sub(written, html)
