"""Links of the README and of the pages lead somewhere, and their Python runs."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from torch.utils.data import DataLoader

from benchmarks.readme import README, pages
from dvae import CategoricalVAE
from dvae.models.encoding import write_tokens
from dvae.priors import AutoregressivePrior
from dvae.sharing import save_pretrained
from tests.toy import toy_data, toy_model, toy_trainer

ROOT = README.parent
PAGES = [*pages(), ROOT / "CONTRIBUTING.md"]
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
# Python, and what it prints where the page says so.
PYTHON = re.compile(
    r"^```python\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE
)

named = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def anchors(path):
    """Return what may stand behind a #: as mkdocs and Git hosts make it of the headings."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", text).lower().strip()) for text in headings}


@named
def test_links_lead_somewhere(page):
    for link in LINK.findall(FENCED.sub("", page.read_text())):
        if link.startswith(("https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(ROOT) and target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_points_to_every_job():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    linked = {link.partition("#")[0] for link in LINK.findall(README.read_text())}
    jobs = [page for section in nav for page in section.get("Jobs", [])]
    assert jobs and {f"docs/{page}" for page in jobs} <= linked


def some_logits():
    return {"logits": torch.randn(2, 5, 3)}


def some_run():
    """Leave behind what a run does, where the page says, and images."""
    path = Path("runs/.../checkpoints/best.ckpt")
    path.parent.mkdir(parents=True)
    trainer = toy_trainer(path.parent, max_steps=1)
    trainer.fit(model := CategoricalVAE(), DataLoader(torch.rand(2, 1, 28, 28), batch_size=2))
    trainer.save_checkpoint(path)
    return {"model": model, "images": torch.rand(2, 1, 28, 28)}


def some_data_set():
    import pytorch_lightning as pl

    rows = list(torch.rand(4, 1, 28, 28))
    return {"pl": pl, "DataLoader": DataLoader, "CategoricalVAE": CategoricalVAE, "dataset": rows}


def some_prior():
    model = toy_model(prior=AutoregressivePrior(8, 1, 2, num_classes=10), latents=3, codes=30)
    return {"model": model, "images": torch.rand(2, 1, 6, 6), "mask": torch.tensor([True] * 3)}


def some_tokens():
    folder = Path("runs/mnist_categorical/version_0/tokens/best-train")
    write_tokens(toy_model(), toy_data(), folder, "train", trainer=toy_trainer(folder))
    return {}


def some_bits():
    images = (torch.rand(4, 1, 6, 6) > 0.5).float()
    return {"model": toy_model().eval(), "images": images}


def some_images():
    return {"images": torch.rand(2, 1, 28, 28)}


def a_shared_model():
    save_pretrained(CategoricalVAE(), "shared")
    return {}


def a_large_code_book():
    h, weight, bias, codebook = (torch.randn(size) for size in ((5, 4), (7, 4), (7,), (7, 3)))
    return {"h": h, "weight": weight, "bias": bias, "codebook": codebook}


# What a page takes for granted, and nothing where it says all that it needs.
GIVEN = {
    "README.md": some_logits,
    "docs/layer.md": some_logits,
    "docs/train.md": some_run,
    "docs/own-data.md": some_data_set,
    "docs/generate.md": some_prior,
    "docs/tokens.md": some_tokens,
    "docs/compress.md": some_bits,
    "docs/share.md": a_shared_model,
    "docs/shipped.md": some_images,
    "docs/science/speed.md": a_large_code_book,
}


def run(page, capsys):
    """Run the Python of a page in an empty folder, and return what it has defined."""
    name = page.relative_to(ROOT).as_posix()
    space = {"__name__": "page", **GIVEN.get(name, dict)()}
    for code, printed in PYTHON.findall(page.read_text()):
        capsys.readouterr()
        exec(compile(code, name, "exec"), space)
        assert not printed or capsys.readouterr().out == printed
    return space


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "page",
    [path for path in PAGES if path.stem != "tutorial" and PYTHON.search(path.read_text())],
    ids=lambda path: str(path.relative_to(ROOT)),
)
# Lightning, about loaders as small as these.
@pytest.mark.filterwarnings("ignore::lightning_fabric.utilities.warnings.PossibleUserWarning")
def test_the_python_of_a_page_runs(page, capsys):
    run(page, capsys)


@pytest.mark.filterwarnings("ignore::lightning_fabric.utilities.warnings.PossibleUserWarning")
def test_the_tutorial_says_what_is_so(capsys):
    space = run(ROOT / "docs" / "tutorial.md", capsys)
    warm, cold, _, unbiased = space["found"].values()
    assert cold.relative_bias < warm.relative_bias
    assert cold.relative_variance > warm.relative_variance
    assert unbiased.unbiased and unbiased.relative_variance > warm.relative_variance
    assert Path("digits.png").is_file()


def test_a_page_that_takes_something_for_granted_is_there():
    assert all((ROOT / name).is_file() for name in GIVEN)
