"""Whatever a model is shared from, a checkpoint, a run or a folder, its card says the same."""

import shutil
from types import SimpleNamespace

import huggingface_hub.hub_mixin
import pytest
from huggingface_hub import ModelCard

from dvae.sharing import from_pretrained, save_pretrained
from dvae.sharing.__main__ import main
from dvae.sharing.folder import SHIPPED


@pytest.fixture
def uploaded(tmp_path, monkeypatch):
    """The folder that was uploaded last."""

    class FakeApi:
        def __init__(self, token=None):
            pass

        def create_repo(self, repo_id, private=None, exist_ok=False):
            return SimpleNamespace(repo_id=repo_id)

        def upload_folder(self, *, folder_path, **kwargs):
            shutil.copytree(folder_path, tmp_path / "hub")
            return "address"

    monkeypatch.setattr(huggingface_hub.hub_mixin, "HfApi", FakeApi)
    return tmp_path / "hub"


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_shared_folder_is_pushed_and_saved_with_all_that_it_says(best, tmp_path, uploaded):
    folder, again = tmp_path / "m", tmp_path / "n"
    wishes = ["--license", "cc-by-4.0", "--reconstructions"]
    assert main(["save", str(best), *wishes, "--out", str(folder)]) == 0
    card = folder / "README.md"
    assert "| `test/elbo` | " in card.read_text() and "Data: MNIST" in card.read_text()
    # What people write by hand is kept, and what it shows.
    card.write_text(card.read_text() + "\nOn a rainy day: ![rain](rain.jpg), [more](none.md)\n")
    (folder / "rain.jpg").write_bytes(b"drops")
    (folder / "private.txt").write_text("not linked")

    assert main(["push", str(folder), "--repo", "user/n"]) == 0
    assert main(["save", str(folder), "--out", str(again)]) == 0
    expected = files(folder)
    del expected["private.txt"]
    text = card.read_text().replace("# m\n", "# n\n").replace('("m"', '("n"')
    assert files(again) == expected | {"README.md": text.encode()}
    text = text.replace("# n\n", "# user/n\n").replace('("n"', '("user/n"')
    assert files(uploaded) == expected | {"README.md": text.encode()}
    # A licence that is given is the new one, above and in the text.
    assert main(["save", str(folder), "--license", "mit", "--out", str(tmp_path / "o")]) == 0
    text = (tmp_path / "o" / "README.md").read_text()
    assert ModelCard(text).data.license == "mit" and "Licence: mit." in text
    assert "cc-by" not in text and "rainy day" in text


@pytest.mark.parametrize("what", ["run", "shared"])
def test_a_folder_is_taken_for_its_checkpoint(what, run, best, tmp_path):
    assert main(["save", str(best), "--out", str(tmp_path / "a" / "m")]) == 0
    source = run if what == "run" else tmp_path / "a" / "m"
    assert main(["save", str(source), "--out", str(tmp_path / "b" / "m")]) == 0
    assert files(tmp_path / "a" / "m") == files(tmp_path / "b" / "m")


def test_a_shipped_model_is_shared_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["save", "mnist", "--out", "shared/mnist"]) == 0
    shared, shipped = files(tmp_path / "shared" / "mnist"), files(SHIPPED / "mnist")
    assert shared.keys() == shipped.keys()
    assert all(shared[name] == shipped[name] for name in shared if name.endswith((".md", ".png")))


def test_in_python_a_card_is_kept_where_it_is_given(best, tmp_path):
    assert main(["save", str(best), "--out", str(tmp_path / "m")]) == 0
    card, model = tmp_path / "m" / "README.md", from_pretrained(tmp_path / "m")
    save_pretrained(model, tmp_path / "x" / "m", card=card)
    assert files(tmp_path / "x" / "m") == files(tmp_path / "m")
    with pytest.raises(FileNotFoundError, match=r"there is no card nowhere.md"):
        save_pretrained(model, tmp_path / "y", card="nowhere.md")
    assert not (tmp_path / "y").exists()
