"""One look for all pictures, whatever the user's matplotlib is set to."""

import re
from pathlib import Path

import matplotlib
import pytest
import torch

import dvae
from dvae.callbacks.latent_plots import plot_counts
from dvae.plotting import line_styles, point_styles

ROOT = Path(dvae.__file__).parent
FILES = [*ROOT.rglob("*.py"), *(ROOT.parent / "benchmarks").rglob("*.py")]


@pytest.mark.parametrize("sign", [r"\bFigure\(", r"rc_context|rcParams", r"pyplot", r"make_grid"])
def test_only_plotting_says_how_a_picture_looks(sign):
    found = {path.relative_to(ROOT.parent) for path in FILES if re.search(sign, path.read_text())}
    assert found <= {Path("dvae/plotting.py")}


def test_a_picture_is_the_same_whatever_matplotlib_is_set_to():
    counts = torch.arange(20).view(4, 5)
    ours = plot_counts(counts, 30)
    with matplotlib.rc_context({"font.size": 20, "axes.titlesize": 30, "axes.spines.top": True}):
        assert plot_counts(counts, 30).tobytes() == ours.tobytes()


def test_names_are_told_apart_by_colour_and_marker():
    names = [f"estimator {n}" for n in range(40)]
    assert (
        len({(style["color"], style["marker"]) for style in point_styles(names * 2).values()}) == 40
    )
    assert len(set(map(str, line_styles(200)))) == 144
