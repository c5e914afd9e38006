"""What the runs' files say is what the page says, and nothing else is."""

import base64
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import pytest
from PIL import Image

import dvae.models
from dvae.compare import compare, read_run
from dvae.compare.__main__ import main
from dvae.compare.curves import PANELS, draw_curves
from dvae.compare.files import write_comparison
from dvae.compare.results import results
from dvae.compare.runs import LIKELIHOODS, find_runs
from dvae.plotting import line_styles
from tests.compare.conftest import settings

FILES = {"comparison.html", "curves.png"}


class Page(HTMLParser):
    """The rows of the table, the words of the picture and the tags of a page."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.best, self.tags, self.words = [], set(), [], []
        self._cell = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self._cell = ""
            if ("class", "best") in attrs:
                self.best.add((len(self.rows) - 1, len(self.rows[-1])))

    def handle_endtag(self, tag):
        if tag in ("th", "td"):
            self.rows[-1].append(self._cell)
            self._cell = None

    def handle_data(self, data):
        if self._cell is None:
            self.words.append(data.strip())
        else:
            self._cell += data

    def row(self, head):
        (found,) = (row[1:] for row in self.rows if row[0] == head)
        return found

    def best_of(self, head):
        (number,) = (n for n, row in enumerate(self.rows) if row[0] == head)
        return {column - 1 for n, column in self.best if n == number}


def compared(tmp_path, *folders):
    assert main([*map(str, folders), "--out", str(tmp_path / "out")]) == 0
    return Page((tmp_path / "out" / "comparison.html").read_text())


def test_what_was_written_is_in_the_page(make_run, tmp_path, capsys):
    a = make_run("a")
    b = make_run("b", elbos=(-130.0, -100.5), test=-101.0, config=settings(0.3))
    page = compared(tmp_path, a, b)
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert page.rows[0][1:] == ["tau.end=0.1", "tau.end=0.3"]
    heads = [row[0] for row in page.rows]
    start = heads.index("Where their settings differ")
    assert heads[start + 1 : start + 3] == ["anneal.tau.end", "folder"]
    assert page.row("anneal.tau.end") == ["0.1", "0.3"]
    assert page.row("folder") == [str(a), str(b)]
    assert page.row("test/elbo ↑") == ["-102.75", "-101.00"]
    assert page.row("val/elbo best ↑") == ["-101.25", "-100.50"]
    assert page.row("val/elbo last ↑") == ["-103.50", "-100.50"]
    assert page.row("val/usage last ↑") == ["0.5", "0.5"]
    assert page.best_of("test/elbo ↑") == {1} and not page.best_of("val/usage last ↑")
    out, err = capsys.readouterr()
    assert "-101.25" in out and out.count("wrote ") == 2 and not err
    with Image.open(tmp_path / "out" / "curves.png") as picture:
        assert min(picture.size) > 800


def drawn(comparison):
    """Return the lines of each panel by its title or, of the annealing, its quantity."""
    figure = draw_curves([run.curves for run in comparison.runs], comparison.labels)
    found = {}
    for axes in figure.findobj(matplotlib.axes.Axes):
        name = axes.get_title() or axes.get_ylabel()
        name = axes.get_ylabel() if "annealing" in name else name
        found[name] = [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]
    return found


def test_the_curves_are_those_of_the_files(make_run):
    elbos = [(-120.0, -101.25, -103.5), (-130.0, -100.5)]
    runs = [read_run(make_run(str(n), elbos=own)) for n, own in enumerate(elbos)]
    panels = drawn(compare(runs))
    assert panels["ELBO (val, hard)"] == [
        ([99, 199, 299], [-120.0, -101.25, -103.5]),
        ([99, 199], [-130.0, -100.5]),
    ]
    assert panels["τ"][1] == ([99, 199], [1.0, 0.9])
    assert "relaxation gap (val)" not in panels  # no run has logged one


def test_a_run_that_is_alone_has_its_training_beside_its_validation(make_run):
    run = read_run(make_run("a"))
    curves = run.curves | {"train/elbo": [(1, -140.0), (50, -120.0)]}
    figure = draw_curves([curves], ["a"])
    (axes,) = (x for x in figure.findobj(matplotlib.axes.Axes) if x.get_title() == "ELBO")
    drawn = zip(axes.get_legend().get_texts(), axes.lines, strict=True)
    found = {text.get_text(): list(line.get_xydata()[:, 1]) for text, line in drawn}
    assert found == {name: [v for _, v in curves[name]] for name in ("train/elbo", "val/elbo")}


LOGGED = [name for _, _, names, _ in PANELS for name in names] + ["anneal/tau", "anneal/lr"]


@pytest.mark.parametrize("count", [1, 2])
def test_no_panel_is_empty_and_no_place_for_one(count):
    for dropped in range(len(LOGGED)):
        names = LOGGED[: dropped + 1] if dropped % 2 else LOGGED[dropped:]
        curves = {name: [(1, 0.5), (40, 0.7)] for name in names}
        figure = draw_curves([curves] * count, ["a", "b"][:count])
        panels = figure.findobj(matplotlib.axes.Axes)
        annealed = [name for name in names if name.startswith("anneal/")]
        assert all(axes.lines for axes in panels[len(annealed) or 1 :])
        # No subfigure that nothing is drawn in.
        parts = [part for part in figure.findobj(matplotlib.figure.SubFigure) if not part.subfigs]
        assert all(part.axes or part.legends for part in parts)


@pytest.mark.parametrize(("gap", "drawn"), [(1e-7, False), (0.5, True)])
def test_a_gap_of_rounding_alone_has_no_panel(gap, drawn):
    curves = {"val/relaxation_gap": [(1, 0.0), (2, gap)], "val/elbo": [(1, -2.0), (2, -1.0)]}
    titles = [axes.get_title() for axes in draw_curves([curves], [""]).get_axes()]
    assert ("relaxation gap" in titles) == drawn


def test_a_note_is_above_its_panel_and_below_the_title(make_run):
    curves = {name: [(1, 0.5), (40, 0.7)] for name in LOGGED}
    other = curves | {"anneal/tau": [(1, 0.3), (40, 0.2)]}
    figure = draw_curves([curves, other], ["a", "b"], "not comparable: see the table")
    figure.canvas.draw()
    found = 0
    for axes in figure.findobj(matplotlib.axes.Axes):
        title = axes.title.get_window_extent()
        for note in axes.texts:
            box = note.get_window_extent()
            assert not (axes.get_title() and box.overlaps(title)), (axes.get_title(), note)
            assert not box.overlaps(axes.get_window_extent())
            found += 1
    assert found == 4  # two warnings, the uniform prior, and the learning rate that all share


def test_the_probe_is_a_curve_of_each_run(make_run):
    curves = [{"probe/variance": [(500 * n, 2.0**-n)]} for n in (1, 2)]
    for runs, title in (
        (curves, "gradient's variance (probe)"),
        (curves[:1], "gradient's variance"),
    ):
        figure = draw_curves(runs, ["a", "b"][: len(runs)])
        (axes,) = (x for x in figure.findobj(matplotlib.axes.Axes) if x.get_title() == title)
        assert [line.get_xydata().tolist() for line in axes.lines] == [
            [list(map(float, run["probe/variance"][0]))] for run in runs
        ]
        assert axes.get_yscale() == "log"


def test_the_last_pictures_of_the_runs_stand_side_by_side_in_the_page(make_run, tmp_path):
    folders = [make_run("a"), make_run("b<i>", config=settings(0.3)), make_run("c")]
    kept = {}
    for run, folder in enumerate(folders[:2]):
        for name in ("reconstructions", "samples"):
            for step in (9, 10):
                path = folder / "media" / name / f"step_{step:07d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (8 + run, step), 40 * run).save(path)
                kept[run, name] = path.read_bytes()
    (folders[2] / "media" / "samples").mkdir(parents=True)
    (folders[2] / "media" / "samples" / "step_0000001.png").write_text("<script>")
    page = compared(tmp_path, *folders)
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    shown = [
        (
            attrs["alt"].lower(),
            base64.b64decode(attrs["src"].removeprefix("data:image/png;base64,")),
        )
        for attrs in images
    ]
    names = ("reconstructions", "samples")
    assert shown == [(name, kept[run, name]) for name in names for run in (0, 1)]
    assert [word for word in page.words if word.endswith("step 10")] == [
        f"{label}, step 10" for _ in names for label in page.rows[0][1:3]
    ]
    # A page without pictures says nothing of them.
    assert "Samples" not in compared(tmp_path, folders[2]).words


def test_curves_that_all_share_are_drawn_once(make_run):
    runs = [read_run(make_run(name)) for name in "abc"]
    panels = drawn(compare(runs))
    assert len(panels["learning rate"]) == 1 and len(panels["ELBO (val, hard)"]) == 3
    assert len(drawn(compare(runs[:1]))["learning rate"]) == 1


def test_a_run_that_diverged_is_shown_as_it_is(make_run, tmp_path):
    nan, inf = math.nan, math.inf
    a = make_run("a", elbos=(-110.0, nan, nan), test=nan)
    page = compared(tmp_path, a, make_run("b"), make_run("c", elbos=(-inf,) * 25, test=-inf))
    assert page.row("test/elbo ↑") == ["nan", "-102.75", "-inf"]
    assert page.row("val/elbo best ↑") == ["-110.00", "-101.25", "-inf"]
    assert page.best_of("test/elbo ↑") == page.best_of("val/elbo best ↑") == {1}


def test_a_run_against_itself_has_no_differing_settings(make_run, tmp_path):
    a = make_run("a")
    page = compared(tmp_path, a, a, tmp_path / "a" / ".." / "a")
    assert len(page.rows[0]) == 2 and not page.best
    page = compared(tmp_path, a, make_run("copy"))
    heads = [row[0] for row in page.rows]
    assert heads[heads.index("No settings differ") + 1] == "folder"
    assert page.rows[0][1:] == ["a", "copy"] and not page.best


def test_the_order_of_the_arguments_changes_nothing(make_run, tmp_path):
    folders = [make_run(f"v_{n}", test=-n, config=settings(n / 20)) for n in (2, 10, 1)]
    pages = set()
    for order in (folders, folders[::-1], folders[1:] + folders[:1]):
        page = compared(tmp_path, *order)
        text = (tmp_path / "out" / "comparison.html").read_text()
        # The layout of the picture may move by a millionth of a point, its words may not.
        pages.add((text.split("<figure")[0], *page.words))
    assert len(pages) == 1
    assert [p.name for p in find_runs(folders)[0]] == ["v_1", "v_2", "v_10"]


def test_a_folder_of_runs_stands_for_all_of_them(make_run, tmp_path, capsys):
    for name in ("x/version_0", "x/version_1", "y/version_0"):
        make_run(f"runs/{name}")
    (tmp_path / "runs" / "x" / "version_2").mkdir()
    assert len(compared(tmp_path, tmp_path / "runs").rows[0]) == 4
    out, _ = capsys.readouterr()
    assert f"left out: {tmp_path / 'runs' / 'x' / 'version_2'} has no metrics.csv" in out
    assert len(compared(tmp_path, tmp_path / "runs" / "x").rows[0]) == 3


NASTY = ["<script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>", "$\\frac{1}$ [bold]&amp;"]


def test_names_are_text_in_the_page_the_picture_and_the_terminal(make_run, tmp_path, capsys):
    folders = [
        make_run(f"r{n}", config=settings(**{"<i>k</i>": {"_x": text}}))
        for n, text in enumerate(NASTY)
    ]
    page = compared(tmp_path, *folders)
    assert page.row("<i>k</i>._x") == NASTY
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "img", "i", "object", "iframe", "link", "base"}
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    ends = [text[-10:] for text in NASTY]
    for words in (page.rows[0], page.words, [capsys.readouterr().out]):
        assert all(any(end in word for word in words) for end in ends)


def test_any_folder_name_is_shown_as_it_is(make_run, tmp_path, capsys):
    names = ["_under", "$a$ & <b>", "[red]x", "Läufe τ"]
    page = compared(tmp_path, *map(make_run, names))
    out, _ = capsys.readouterr()
    assert set(page.rows[0][1:]) == set(names) <= set(page.words)
    assert all(name in out for name in names)


def test_the_page_loads_nothing(make_run, tmp_path):
    page = compared(tmp_path, make_run("a"), make_run("b", config=settings(0.2)))
    for tag, attrs in page.tags:
        for key in ("src", "href", "xlink:href", "srcset", "data", "action"):
            # An SVG refers to its own parts.
            assert attrs.get(key, "#").startswith("#"), (tag, attrs)
    text = (tmp_path / "out" / "comparison.html").read_text()
    assert not re.search(r"@import|url\((?!#)", text)
    assert "default-src 'none'" in text and "prefers-color-scheme: dark" in text
    # No colour is left in the picture that the dark page could not change.
    svg = text[text.index("<figure") :]
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) <= {"#ffffff"}


def test_a_figure_that_is_better_is_marked_and_only_then():
    def best(name, *values):
        (result,) = results([{name: [(0, value)]} for value in values])
        return [n for n, is_best in enumerate(result.best) if is_best]

    nan = math.nan
    assert best("test/elbo", -3, -1, -2) == [1]
    assert best("test/bits_per_dim", 3, 1, 2) == best("test/fid", 3, 1, 2) == [1]
    assert best("val/relaxation_gap", -1, 0.5, 2) == [1]
    assert best("test/kl", 3, 1, 2) == best("val/elbo_relaxed", 3, 1, 2) == []
    assert best("test/iwae", -1, -1, -2) == [0, 1]
    assert best("test/iwae", nan, -1, -2) == [1]
    assert best("test/iwae", -1, -1) == best("test/iwae", nan, -1) == best("test/iwae", -1) == []


def test_the_looks_of_many_runs_differ():
    assert len(set(map(str, line_styles(100)))) == 100
    assert len({(x["color"], str(x["linestyle"])) for x in line_styles(12)}) == 12


def cut(folder, end):
    path = folder / "metrics.csv"
    path.write_bytes(path.read_bytes()[:end])


def write(name, text):
    return lambda folder: (folder / name).write_text(text)


BROKEN = {
    "no CSV": (lambda f: (f / "metrics.csv").unlink(), "has no metrics.csv, nor has a folder"),
    "empty CSV": (write("metrics.csv", ""), "metrics.csv is empty"),
    "only names": (write("metrics.csv", "step,val/elbo\n"), "no values"),
    "other CSV": (write("metrics.csv", "a,b\n1,2\n"), "open with the names of its columns"),
    "in a number": (lambda f: cut(f, -5), "is cut short in line 8"),
    "in a line's end": (lambda f: cut(f, -2), "is cut short in line 8"),
    "no number": (write("metrics.csv", "step,val/elbo\n1,x\n"), "line 2: could not convert"),
    "a short line": (write("metrics.csv", "step,x\n1,2\n3\n4,5\n"), "1 values in line 3"),
    "bytes": (lambda f: (f / "metrics.csv").write_bytes(b"\xff\xfe\n"), "no text in UTF-8"),
    "no config": (lambda f: (f / "config.yaml").unlink(), "has no config.yaml"),
    "a list": (write("config.yaml", "[1, 2]"), "must hold keys with values; got a list"),
    "empty config": (write("config.yaml", ""), "must hold keys with values; got nothing"),
    "open bracket": (write("config.yaml", "a: 1\nb: [1,"), "is no plain YAML at line"),
    "bad date": (write("config.yaml", "a: 2026-13-45"), "is no plain YAML"),
    "in itself": (write("config.yaml", "a: &a {b: *a}"), "contains itself"),
    "code": (
        write("config.yaml", "a: !!python/object/apply:os.mkdir [made]"),
        "is no plain YAML at line 1",
    ),
}


@pytest.mark.parametrize(("break_it", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_run_is_one_line_and_nothing_is_written(
    break_it, message, make_run, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    whole, broken = make_run("whole"), make_run("broken")
    break_it(broken)
    assert main([str(whole), str(broken)]) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert not out and line.startswith("error: ") and message in line and "broken" in line
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "broken"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "the following arguments are required: RUN"),
        (["none"], "none does not exist: name the folder of a run"),
        (["a/metrics.csv"], "a/metrics.csv is a file: name the folder of a run"),
        (["a", "--out", "a/metrics.csv"], "--out a/metrics.csv: a/metrics.csv is a file"),
        (["a", "--ou", "b"], "unrecognized arguments: --ou"),
    ],
    ids=str,
)
def test_bad_arguments_are_one_line(args, message, make_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_run("a")
    assert main(args) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert not out and line.startswith("error: ") and message in line
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_picture_that_fails_leaves_the_old_page_whole(make_run, tmp_path, monkeypatch):
    def fail(self, *args, **kwargs):
        if "metadata" not in kwargs:
            raise OSError("no space left")
        return savefig(self, *args, **kwargs)

    savefig = matplotlib.figure.Figure.savefig
    out = tmp_path / "out"
    out.mkdir()
    (out / "comparison.html").write_text("old")
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", fail)
    with pytest.raises(OSError, match="no space left"):
        write_comparison(compare([read_run(make_run("a"))]), out)
    assert {p.name: p.read_text() for p in Path(out).iterdir()} == {"comparison.html": "old"}


def of_likelihood(name, data="MNIST", binarization="none"):
    config = settings(0.1, data={"class_path": f"dvae.data.{data}", "init_args": {}})
    config["data"]["init_args"]["binarization"] = binarization
    if name:
        likelihood = {"class_path": f"dvae.likelihoods.{name}", "init_args": {}}
        config["model"]["init_args"]["likelihood"] = likelihood
    return config


def of_tokens(**kwargs):
    config = of_likelihood(None, **kwargs)
    images = {"folder": "tokens", "images": config["data"]}
    return {**config, "data": {"class_path": "dvae.data.TokenData", "init_args": images}}


@pytest.mark.parametrize(
    ("other", "differ"),
    [
        (of_tokens(), False),
        (of_tokens(binarization="fixed"), True),
        (of_likelihood("Gaussian"), True),
        (of_likelihood("Bernoulli"), False),
        (of_likelihood(None, "FashionMNIST"), True),
        (of_likelihood(None, binarization="dynamic"), True),
    ],
    ids=["tokens", "other tokens", "likelihood", "the same", "data", "binarization"],
)
def test_likelihoods_of_different_kinds_are_on_one_axis_with_a_word(
    make_run, tmp_path, capsys, other, differ
):
    runs = [make_run("a", config=of_likelihood(None)), make_run("b", test=900.0, config=other)]
    page = compared(tmp_path, *runs)
    out = capsys.readouterr().out
    text = "Log-likelihoods (ELBO, IWAE, reconstruction, bits per dimension) of different kinds"
    assert (text in out) == differ == any(text in word for word in page.words)
    # On the one panel of likelihoods that these runs have logged.
    assert page.words.count("not comparable: see the table") == differ
    if differ:
        assert page.row("test/elbo ") == ["-102.75", "900.00"] and not page.best
        assert "Bernoulli, MNIST, binarization none; " in out
    else:
        assert page.best_of("test/elbo ↑") == {1}


def test_models_without_a_likelihood_in_their_settings_have_the_one_that_is_said():
    for name, likelihood in LIKELIHOODS.items():
        assert type(getattr(dvae.models, name)().likelihood).__name__ == likelihood


def test_a_learned_prior_has_a_panel_and_a_uniform_one_a_line(make_run):
    learned = {"val/prior_bits_per_token": [(9, 4.0), (19, 3.5)]}
    uniform = {"val/uniform_bits_per_token": [(9, 7.0), (19, 7.0)]}
    plain = read_run(make_run("a")).curves

    def panels(*runs):
        figure = draw_curves(runs, [str(n) for n in range(len(runs))])
        axes = [x for x in figure.findobj(matplotlib.axes.Axes) if "prior" in x.get_title()]
        return [[list(line.get_ydata()) for line in x.lines] for x in axes]

    assert panels(plain) == []
    ((one, other),) = panels(learned | uniform)
    assert {tuple(one), tuple(other)} == {(4.0, 3.5), (7.0, 7.0)}
    assert panels(plain, learned | uniform) == [[[4.0, 3.5], [7.0, 7.0]]]
    # Of different codes no line is that of all.
    fewer = {"val/uniform_bits_per_token": [(9, 3.0)]}
    assert panels(learned | fewer, learned | uniform) == [[[4.0, 3.5], [4.0, 3.5]]]


def test_a_former_runs_prior_is_found_where_it_was(make_run):
    config = settings()
    settings_then = {"num_latents": 4, "prior": [0.25, 0.75], "learned_prior": False}
    config["model"]["init_args"]["bottleneck"] = {
        "class_path": "dvae.bottlenecks.CategoricalBottleneck",
        "init_args": settings_then,
    }
    run = read_run(make_run("a", config=config))
    assert run.settings["model.prior"] == "dvae.priors.CategoricalPrior"
    assert "model.bottleneck.prior" not in run.settings
