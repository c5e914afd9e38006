"""The pages are built without a warning, show what is public, and load nothing from elsewhere."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.readme import README

ROOT = README.parent
REFERENCE = sorted((ROOT / "docs" / "reference").glob("*.md"))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for name in ("mkdocs", "material", "mkdocstrings", "latex2mathml"):
        pytest.importorskip(name)
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_nothing_is_loaded_from_elsewhere(site):
    pages = [*site.rglob("*.html")]
    assert len(pages) > 30
    loads = re.compile(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="?(?:https?:)?//[^>]*>')
    assert not [found for page in pages for found in loads.findall(page.read_text())]
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert not re.findall(r"url\([\"']?https?:|@import", styles)


def test_equations_are_written_out(site):
    html = (site / "science" / "estimators.html").read_text()
    assert html.count("<math") > 50 and "arithmatex" not in html
    assert not re.findall(r"<math[^\\]*\\\w+", html)
    assert not [page for page in site.rglob("*.html") if ":math:" in page.read_text()]


def test_there_is_a_page_for_each_package():
    packages = {path.parent.name for path in ROOT.glob("dvae/*/__init__.py")}
    assert packages <= {page.stem for page in REFERENCE}


@pytest.mark.parametrize("page", REFERENCE, ids=lambda path: path.stem)
def test_all_that_is_public_is_in_the_reference(site, page):
    html = (site / "reference" / f"{page.stem}.html").read_text()
    shown = {name.rpartition(".")[2] for name in re.findall(r'id="(dvae\.[\w.]+)"', html)}
    assert set(import_module(f"dvae.{page.stem}").__all__) <= shown


def test_an_image_is_where_the_page_has_it(site):
    html = (site / "train.html").read_text()
    sources = re.findall(r'<img[^>]*src="([^"]+)"', html)
    assert sources and all((site / Path(source)).is_file() for source in sources)
