"""What mkdocs does not do by itself: files of the repository in the site, equations as MathML.

A page links to ``../benchmarks/results/x.png``, which is right where the repository is looked at;
the site gets the file, and a link to where it has it. The front page is the README. Equations need
no script from anywhere.
"""

import os
import re
from html import unescape
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

# A relative link; without the part behind a #.
LINK = re.compile(r"(?<=\]\()(?!\w+:)[^)\s#]+")
# What arithmatex makes of $x$ and $$x$$.
EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Take the README, and the files of the repository that pages link to, into the site."""
    readme = _taken(Path(config.docs_dir).parent / "README.md", files, config)
    pages = [readme, *files.documentation_pages()]
    for page in pages:  # it grows: a page that is linked to has links itself
        for link in LINK.findall(page.content_string):
            path = _target(page, link)
            if path.is_file() and files.get_file_from_path(_uri(path, config)) is None:
                file = _taken(path, files, config)
                pages += [file] if file.is_documentation_page() else []
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Point links to where the site has the files."""
    here = os.path.dirname(page.file.src_uri)
    if page.parent is None:  # a tab of one page: its name alone would take a fifth of the width
        page.meta["hide"] = ["navigation"]

    def pointed(match: re.Match[str]) -> str:
        path = _target(page.file, match[0])
        return os.path.relpath(_uri(path, config), here) if path.is_file() else match[0]

    return LINK.sub(pointed, markdown)


def _taken(path: Path, files: Files, config: MkDocsConfig) -> File:
    file = File.generated(config, _uri(path, config), abs_src_path=str(path))
    files.append(file)
    return file


def _target(page: File, link: str) -> Path:
    return (Path(str(page.abs_src_path)).parent / link).resolve()


def _uri(path: Path, config: MkDocsConfig) -> str:
    docs = Path(config.docs_dir)
    if path == docs.parent / "README.md":
        return "index.md"
    root = docs if path.is_relative_to(docs) else docs.parent
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def on_page_content(html: str, **_: Any) -> str:
    """Write every equation in MathML, which browsers show by themselves."""

    def written(match: re.Match[str]) -> str:
        latex = unescape(match[2]).replace(r"\arg", r"\mathrm{arg}")  # convert knows no arg
        return convert(latex, display="block" if match[1] == "div" else "inline")

    return EQUATION.sub(written, html)
