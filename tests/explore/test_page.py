"""The page in a real browser: a click changes the picture, and a mistake changes nothing."""

import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dvae.explore import Explorer, load_gallery, load_snapshots
from tests.explore.conftest import CATEGORICAL, GRID, LEVELS, PRIORS, written

pytest.importorskip("gradio", reason="gradio is not installed")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def served(*paths) -> Iterator[str]:
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    from dvae.explore.page import launch, make_page

    snapshots, _ = load_snapshots(paths)
    gallery = load_gallery(snapshots[0].model.image_shape, paths[0])
    page = make_page(Explorer(snapshots, gallery))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        yield launch(page, "127.0.0.1", port)
    finally:
        page.close(verbose=False)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    with playwright.sync_playwright() as started:
        path = path or started.chromium.executable_path
        if not os.path.exists(path):
            pytest.skip("there is no Chromium")
        chromium = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def tab(browser):
    """A tab; what it asks of other machines, and its errors, are kept."""
    page = browser.new_page(viewport={"width": 1200, "height": 1000})
    page.set_default_timeout(60_000)
    page.foreign, page.errors = [], []
    local = re.compile(r"(https?|wss?)://127\.0\.0\.1[:/]|data:|blob:")
    page.on("request", lambda r: None if local.match(r.url) else page.foreign.append(r.url))
    page.on("console", lambda m: page.errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    yield page
    page.close()


def opened(tab, url):
    tab.goto(url)
    tab.wait_for_selector("#decoded img")
    tab.click("role=tab[name='Numbers']")
    tab.wait_for_selector("[data-testid=cell-0-0]")


def picture(tab, name):
    return tab.get_attribute(f"#{name} img", "src")


def wait_for_words(tab, text):
    tab.wait_for_function("t => document.querySelector('#words').innerText.includes(t)", arg=text)


def wait_for_another(tab, name, source):
    """Wait until a picture is no longer the one it was: words and pictures come one by one."""
    tab.wait_for_function(
        "([n, s]) => document.querySelector(`#${n} img`).src !== s", arg=[name, source]
    )


def wait_for_picture(tab, name, source):
    tab.wait_for_function(
        "([n, s]) => document.querySelector(`#${n} img`).src === s", arg=[name, source]
    )


def wait_for_cell(tab, row, column, value):
    for _ in range(100):
        if cell(tab, row, column) == value:
            return
        tab.wait_for_timeout(50)
    assert cell(tab, row, column) == value


def type_into(tab, name, value):
    tab.fill(f"#{name} input[type=number]", str(value))
    tab.keyboard.press("Enter")


def type_cell(tab, row, column, value):
    tab.dblclick(f"[data-testid=cell-{row}-{column}]")
    tab.wait_for_selector(f"[data-testid=cell-{row}-{column}] :is(input, textarea)")
    tab.keyboard.press("Control+A")
    tab.keyboard.type(str(value))
    tab.keyboard.press("Enter")


def cell(tab, row, column):
    return int(tab.inner_text(f"[data-testid=cell-{row}-{column}]"))


def changes(tab):
    return tab.inner_text("#words").partition("Changes:")[2]


def wait_for_warning(tab, text):
    tab.wait_for_selector(f".toast-body:has-text('{text}')")


@pytest.mark.parametrize(
    ("config", "row", "column", "place"),
    [
        (CATEGORICAL, 0, 2, "latent 2"),
        (GRID, 2, 3, "row 2, column 3"),
        (LEVELS, 2, 3, "row 2, column 1, level 1"),
    ],
    ids=["latents", "grid", "levels"],
)
def test_a_click_and_a_number_change_the_picture(tab, tmp_path, config, row, column, place):
    with served(written(tmp_path / "a.ckpt", config)) as url:
        opened(tab, url)
        first, before = picture(tab, "decoded"), cell(tab, row, column)
        tab.click(f"[data-testid=cell-{row}-{column}]")
        wait_for_words(tab, f"Chosen: {place}")
        other = (before + 1) % 5
        type_into(tab, "category", other)
        wait_for_words(tab, f"{before} → {other}")
        wait_for_cell(tab, row, column, other)
        wait_for_another(tab, "decoded", first)
        assert picture(tab, "reconstruction") != picture(tab, "decoded")
        tab.click("#back")
        wait_for_words(tab, "Changes: none")
        wait_for_cell(tab, row, column, before)
        # The same pixels have the same name: Gradio calls a picture by its content.
        wait_for_picture(tab, "decoded", first)
    assert tab.foreign == [] and tab.errors == []


def test_mistakes_are_said_and_lose_nothing(tab, tmp_path):
    with served(written(tmp_path / "a.ckpt", CATEGORICAL)) as url:
        opened(tab, url)
        before = cell(tab, 0, 3)
        other = (before + 2) % 5
        type_cell(tab, 0, 3, other)
        wait_for_words(tab, f"latent 3: {before} → {other}")
        kept, listed = picture(tab, "decoded"), changes(tab)
        type_cell(tab, 0, 1, 99)
        wait_for_warning(tab, "latent 1: the category must be in [0, 5); got 99")
        type_into(tab, "image", 10_000)
        wait_for_warning(tab, "the image must be in [0, 10000)")
        type_into(tab, "position", 4)
        wait_for_warning(tab, "the position must be in [0, 4); got 4")
        type_into(tab, "category", 5)
        wait_for_warning(tab, "the category must be in [0, 5); got 5")
        (tmp_path / "text.png").write_text("no image")
        tab.set_input_files("input[type=file]", tmp_path / "text.png")
        wait_for_warning(tab, "text.png is no image that can be read")
        assert changes(tab) == listed
        assert picture(tab, "decoded") == kept
        assert tab.input_value("#image input[type=number]") == "0"
    assert tab.foreign == []


def test_a_change_stays_while_the_checkpoints_are_flipped_and_an_image_is_uploaded(tab, tmp_path):
    from PIL import Image

    early = written(tmp_path / "early.ckpt", CATEGORICAL, 5, 1.0, seed=6)
    late = written(tmp_path / "late.ckpt", CATEGORICAL, 50, 0.1, seed=7)
    Image.effect_noise((50, 30), 80).save(tmp_path / "noise.png")
    with served(early, late) as url:
        opened(tab, url)
        assert "τ 1," in tab.inner_text("#checkpoint") and "τ 0.1," in tab.inner_text("#checkpoint")
        first = picture(tab, "reconstruction")
        tab.set_input_files("input[type=file]", tmp_path / "noise.png")
        wait_for_words(tab, "uploaded noise.png")
        wait_for_another(tab, "reconstruction", first)
        uploaded = picture(tab, "reconstruction")
        before = cell(tab, 0, 0)
        type_into(tab, "category", (before + 1) % 5)
        wait_for_words(tab, "latent 0:")
        tab.click("#checkpoint label >> nth=0")
        wait_for_another(tab, "reconstruction", uploaded)
        wait_for_cell(tab, 0, 0, (before + 1) % 5)
        assert "uploaded noise.png" in tab.inner_text("#words")
        assert len({first, uploaded, picture(tab, "reconstruction")}) == 3
    assert tab.foreign == [] and tab.errors == []


@pytest.mark.parametrize("name", PRIORS)
def test_images_are_drawn_and_a_region_is_redrawn_and_taken_back(tab, tmp_path, name):
    with served(written(tmp_path / "a.ckpt", PRIORS[name])) as url:
        opened(tab, url)
        tab.click("role=tab[name='Draw']")
        independent = name in ("uniform", "levels")
        title = "Independent uniform codes" if independent else "Prior samples"
        assert title in tab.inner_text("#drawn")
        assert tab.locator("#class").count() == (name in ("autoregressive", "masked"))
        if name == "masked":
            tab.click("#class input")
            tab.click("[role=option]:has-text('2')")
            type_into(tab, "guidance", 1.5)
        type_into(tab, "temperature", 1.8)
        tab.click("#draw")
        tab.wait_for_selector("#drawn img")
        drawn = picture(tab, "drawn")
        tab.click("#draw")
        wait_for_another(tab, "drawn", drawn)
        first = picture(tab, "decoded")
        if name in ("MADE", "autoregressive"):
            assert tab.locator("#last").count() == 0
            tab.click("role=tab[name='Numbers']")
            type_into(tab, "position", 30)
            wait_for_words(tab, "row 4, column 2")
            tab.click("role=tab[name='Draw']")
        else:
            type_into(tab, "last", 3)
        tab.click("#again")
        wait_for_words(tab, "→")
        wait_for_another(tab, "decoded", first)
        kept = picture(tab, "reconstruction")
        tab.click("#back")
        wait_for_words(tab, "Changes: none")
        wait_for_picture(tab, "decoded", kept)
    assert tab.foreign == [] and tab.errors == []


def click_place(tab, row, column, size=7):
    box = tab.locator("#canvas img").bounding_box()
    across, down = box["width"] / size, box["height"] / size
    middle = {"x": (column + 0.5) * across, "y": (row + 0.5) * down}
    tab.locator("#canvas img").click(position=middle)


@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_on_the_picture_a_place_is_chosen_changed_and_painted(tab, tmp_path, width):
    tab.set_viewport_size({"width": width, "height": 844})
    with served(written(tmp_path / "a.ckpt", GRID)) as url:
        opened(tab, url)
        tab.wait_for_selector("#canvas img")
        for name in ("#alternatives", "#thumbnails"):
            tab.wait_for_selector(f"{name} img")
        # Nothing is wider than the screen.
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        first, before = picture(tab, "decoded"), cell(tab, 2, 5)
        click_place(tab, 2, 5)
        wait_for_words(tab, "Chosen: row 2, column 5")
        tab.wait_for_timeout(500)  # the alternatives are those of the place by then
        other = tab.locator("#alternatives .caption-label").nth(2).inner_text().split(":")[0]
        tab.locator("#alternatives button").nth(2).click()
        wait_for_words(tab, f"row 2, column 5: {before} → {other}")
        wait_for_another(tab, "decoded", first)
        tab.click("role=tab[name='Paint']")
        tab.wait_for_selector("#palette img")
        brush = (int(other) + 1) % 6
        type_into(tab, "brush", brush)
        tab.click("#tool label:has-text('paint')")
        click_place(tab, 6, 6)
        wait_for_words(tab, f"row 6, column 6, which has {brush}")
        tab.click("#undo")
        tab.click("#undo")
        wait_for_words(tab, "Changes: none")
        wait_for_picture(tab, "decoded", first)
    assert tab.foreign == [] and tab.errors == []


def test_a_thumbnail_and_an_upload_of_any_size_are_shown_and_a_bad_one_changes_nothing(
    tab, tmp_path
):
    from PIL import Image

    Image.effect_noise((90, 41), 80).save(tmp_path / "noise.png")
    Image.new("L", (1, 1)).save(tmp_path / "dot.png")
    with served(written(tmp_path / "a.ckpt", GRID)) as url:
        opened(tab, url)
        tab.wait_for_selector("#thumbnails img")
        # The second click, before the first is answered, is on the image that the first chose.
        tab.locator("#thumbnails button").nth(5).click()
        click_place(tab, 6, 1)
        wait_for_words(tab, "test image 5, label")
        wait_for_words(tab, "Chosen: row 6, column 1")
        assert "test image 5, label" in tab.inner_text("#words")
        tab.click("#next")
        wait_for_words(tab, "test image 29, label")
        tab.set_input_files("input[type=file]", tmp_path / "noise.png")
        wait_for_words(tab, "90 x 41 pixels, scaled and cut to 88 x 40")
        shown = picture(tab, "canvas")
        tab.set_input_files("input[type=file]", tmp_path / "dot.png")
        wait_for_warning(tab, "dot.png: an image must have at least 4 x 4 pixels; got 1 x 1")
        assert picture(tab, "canvas") == shown and "noise.png" in tab.inner_text("#words")
    assert tab.foreign == [] and tab.errors == []


def test_from_one_image_to_another_step_by_step(tab, tmp_path):
    with served(written(tmp_path / "a.ckpt", GRID)) as url:
        opened(tab, url)
        tab.click("role=tab[name='Interpolate']")
        tab.click("#walk")
        wait_for_warning(tab, "keep an image first")
        tab.click("#keep")
        tab.wait_for_selector("#kept img")
        kept = picture(tab, "decoded")
        tab.locator("#thumbnails button").nth(3).click()
        wait_for_words(tab, "test image 3")
        tab.click("#walk")
        tab.wait_for_selector("#steps img")
        tab.locator("#steps button").nth(8).click()
        wait_for_words(tab, "→")
        wait_for_picture(tab, "decoded", kept)
    assert tab.foreign == [] and tab.errors == []


def test_the_page_may_ask_no_other_machine(tmp_path):
    from urllib.request import urlopen

    with served(written(tmp_path / "a.ckpt", CATEGORICAL)) as url, urlopen(url) as answer:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'self' ") and "http" not in policy
