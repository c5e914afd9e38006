"""The trained models that come with the package load anywhere, and are what their cards say."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

import dvae
from dvae.data import MNIST
from dvae.explore.checkpoints import load_snapshots
from dvae.sharing import from_pretrained, shared_folder, shipped
from dvae.sharing.folder import SHIPPED

ROOT = Path(__file__).parents[2]
# Bytes of all of them together.
ROOM = 2 * 2**20


def figures(name):
    card = (SHIPPED / name / "README.md").read_text()
    return {key: float(value) for key, value in re.findall(r"\| `(test/\S+)` \| (\S+) \|", card)}


def test_they_are_small_no_pickles_and_in_the_wheel():
    assert shipped() == ["mnist", "mnist-codebook"]
    files = [path for path in SHIPPED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= ROOM
    assert {path.suffix for path in files} <= {".json", ".md", ".png", ".safetensors"}
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
        "package-data"
    ]
    inside = {path for pattern in data["dvae.sharing"] for path in SHIPPED.parent.glob(pattern)}
    assert set(files) <= inside


@pytest.mark.parametrize("name", shipped())
def test_a_card_has_the_command_and_figures_that_its_model_has(name):
    card = (SHIPPED / name / "README.md").read_text()
    assert "dvae fit --config mnist_c" in card and "Y. LeCun" in card
    assert not re.search(r"(^|[\s'\"=])/\w", card.split("```json")[0])  # no path of a machine
    found, model = figures(name), dvae.load(name)
    assert {"test/elbo", "test/iwae", "test/kl"} <= found.keys()
    # The KL to a factorised prior is exact; that to another, and the ELBO, have noise.
    data = MNIST()
    data.setup("test")
    rows = data.rows("test")
    images = data.on_after_batch_transfer(next(iter(data.test_dataloader())), 0).image[:400]
    assert len(rows.index) == 10_000
    with torch.no_grad():
        q = model.bottleneck(model.encoder(images), model.prior)
        index = q.sample(2, torch.Generator().manual_seed(0))
        log_px = torch.stack(
            [model.log_px(model.bottleneck.embed(z[None]), images)[0] for z in index]
        )
        elbo = log_px + model.prior.log_prob(index) - q.log_prob(index)
    each = elbo.double().mean(0)
    error = each.std() / len(each) ** 0.5
    assert abs(each.mean() - found["test/elbo"]) < 5 * error
    assert error < 0.05 * abs(found["test/elbo"])


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_model_takes_images_and_draws_them(name):
    model = dvae.load(name)
    images = torch.rand(3, 1, 28, 28)
    assert not model.training and model.decode(model.encode(images)).shape == images.shape
    samples = model.sample(4, torch.Generator().manual_seed(0))
    assert samples.shape == (4, 1, 28, 28) and samples.std() > 0.1
    again = from_pretrained(name)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in model.state_dict().items())


def test_an_own_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shared_folder("mnist") == SHIPPED / "mnist"
    Path("mnist").mkdir()
    assert shared_folder("mnist") == Path("mnist")
    with pytest.raises(FileNotFoundError, match="mnist has no model"):
        dvae.load("mnist")
    with pytest.raises(FileNotFoundError, match="no folder minst; .* models mnist, mnist-codebook"):
        dvae.load("minst")


def test_it_needs_neither_the_hub_nor_a_checkout(tmp_path):
    code = (
        "import sys; sys.modules['huggingface_hub'] = None; import dvae; "
        "print(tuple(dvae.load('mnist').sample(2).shape))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "(2, 1, 28, 28)", done.stderr


def test_the_explorer_takes_a_name():
    (snapshot,), left_out = load_snapshots([Path("mnist")])
    assert not left_out and snapshot.title.startswith("τ 0.1") and "(mnist)" in snapshot.title
