"""Every command of the README and of the pages is one that there is, with keys that there are."""

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from benchmarks.readme import README, pages
from dvae.cli import main
from dvae.cli.help import OVERVIEW

ROOT = README.parent
BASH = re.compile(r"^```bash\n(.*?)^```$", re.DOTALL | re.MULTILINE)
TRAINING = ("fit", "validate", "test", "predict")


def commands():
    """Return what a reader would type, split as a shell does, by the page."""
    for path, text in pages().items():
        for block in BASH.findall(text):
            for line in block.replace("\\\n", "").splitlines():
                for command in line.split("&&"):
                    if words := shlex.split(command, comments=True):
                        yield str(path.relative_to(ROOT)), words


FOUND = list(commands())


def of_training():
    for page, words in FOUND:
        at = next((n for n, word in enumerate(words) if word in TRAINING), 0)
        if at and words[at - 1] in ("dvae", "train.py"):
            yield pytest.param(words[at:], id=f"{page}: {' '.join(words[at:])[:80]}")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Go to a folder that has the configs, and the settings of a run."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    run = tmp_path / "runs" / "mnist_categorical" / "version_0"
    run.mkdir(parents=True)
    (run / "config.yaml").symlink_to(ROOT / "configs" / "mnist_categorical.yaml")
    (tmp_path / "my_package.py").write_text(
        "from torch.utils.data import Dataset\n\nclass MyDataset(Dataset):\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("words", [*of_training()])
def test_its_keys_are_there(words, home, capsys):
    with pytest.raises(SystemExit) as left:
        assert main([*words, "--print_config"]) is None, capsys.readouterr().err
    assert left.value.code == 0
    assert "model" in yaml.safe_load(capsys.readouterr().out)


def test_what_is_started_is_there():
    started = {words[1] for _, words in FOUND if words[0] == "dvae"}
    assert len(started) >= 6 and started <= set(re.findall(r"\w+", OVERVIEW))
    text = "\n".join(pages().values())
    modules = set(re.findall(r"python -m (benchmarks[\w.]*)", text))
    assert len(modules) > 10 and all(find_spec(module) for module in modules)
    assert all(Path(ROOT, path).exists() for path in re.findall(r"`(benchmarks/\w+)`", text))
