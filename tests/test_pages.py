"""Links of the README and of the pages lead somewhere, and their Python runs."""

import re
from pathlib import Path

import pytest
import torch
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
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)

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
    linked = {link.partition("#")[0] for link in LINK.findall(README.read_text())}
    for path in ROOT.glob("docs/**/*.md"):
        name = str(path.relative_to(ROOT))
        assert name in linked or name.startswith(("docs/reference/", "docs/index"))


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
    "docs/science/speed.md": a_large_code_book,
}


@pytest.mark.parametrize(
    "page",
    [path for path in PAGES if PYTHON.search(path.read_text())],
    ids=lambda path: str(path.relative_to(ROOT)),
)
# Lightning, about loaders as small as these.
@pytest.mark.filterwarnings("ignore::lightning_fabric.utilities.warnings.PossibleUserWarning")
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = page.relative_to(ROOT).as_posix()
    space = {"__name__": "page", **GIVEN.get(name, dict)()}
    for block in PYTHON.findall(page.read_text()):
        exec(compile(block, name, "exec"), space)


def test_a_page_that_takes_something_for_granted_is_there():
    assert all((ROOT / name).is_file() for name in GIVEN)
