"""The small trained models that come with the package, as they are made.

    python -m benchmarks.shipped [mnist | mnist-codebook]

Trains by the command line and takes the best checkpoint, its weights rounded to half precision
where room is short and tested again: that is what `dvae.load("mnist")` gives, and what its card
says. Runs are left in `runs/shipped`; started again, this trains what is missing.
"""

import argparse
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from safetensors.torch import load_file, save_file

from benchmarks.default_run import start
from benchmarks.measure import conditions, machine, read_csv, write_csv
from dvae.data import MNIST
from dvae.models import DiscreteVAE
from dvae.runs.curves import read_curves
from dvae.runs.layout import RunFolder
from dvae.sharing.folder import SHIPPED, WEIGHTS, read_shared
from dvae.sharing.pretrained import save_pretrained
from dvae.sharing.source import load_checkpoint

__all__ = ["main"]

WORK = Path("runs/shipped")


@dataclass(frozen=True)
class Training:
    """One run of the command line.

    Attributes:
        config: Name of its configuration.
        options: What it changes, a word each.
    """

    config: str
    options: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return WORK / self.config / "version_0"

    def command(self) -> str:
        """Say how it is started by hand."""
        words = ["dvae", "fit", "--config", self.config, *self.options]
        return shlex.join([*words, "--trainer.default_root_dir", str(WORK)])

    def run(self) -> dict[str, float]:
        """Train, unless that is done, and return what the test of the run found."""
        found = _tested(self.folder)
        if not found:
            shutil.rmtree(self.folder, ignore_errors=True)
            start(self.config, WORK, *self.options)
            found = _tested(self.folder)
        return found


_CODEBOOK = Training(
    "mnist_codebook",
    ("--trainer.max_epochs", "4", "--model.evaluation.iwae_samples", "10"),
)
MODELS = {
    "mnist": [
        Training(
            "mnist_categorical",
            ("--model.network", "{class_path: MLP, init_args: {hidden: [192, 128]}}"),
        )
    ],
    "mnist-codebook": [
        _CODEBOOK,
        Training(
            "mnist_codebook_prior",
            (
                *("--init_from", str(_CODEBOOK.folder)),
                *("--model.prior.init_args.width", "64", "--model.prior.init_args.depth", "2"),
                *("--model.evaluation.iwae_samples", "4"),
            ),
        ),
    ],
}
# Whose weights are rounded to half precision, for room; they are tested again.
ROUNDED = ("mnist",)
HOW = """
## How it was made

```
{commands}
```

The figures of the test are those of these weights on the 10,000 test images of MNIST (Y. LeCun,
L. Bottou, Y. Bengio, P. Haffner, 1998), which are not trained on, with {draws} draws of the code
for each image. {rounding}{machine}.
"""
ROUNDING = (
    "The weights are rounded to half precision and tested after that: before it the ELBO was "
    "{:.2f}. "
)


def ship(name: str) -> list[dict[str, object]]:
    """Make one model, and return what was measured of it as it was trained and as it is shipped.

    Args:
        name: Name of the model.
    """
    trainings, rounded = MODELS[name], name in ROUNDED
    before = [training.run() for training in trainings][-1]
    source = load_checkpoint(RunFolder.checkpoint_in(trainings[-1].folder))
    figures = dict(source.figures)
    if rounded:
        figures = tested(source.model.half().float())
    target = SHIPPED / name
    shutil.rmtree(target, ignore_errors=True)
    save_pretrained(
        source.model, target, figures, source.data, license="mit", picture=source.picture
    )
    if rounded:
        _halve(target / WEIGHTS)
    how = HOW.format(
        commands="\n".join(training.command() for training in trainings),
        draws=source.model.evaluation.iwae_samples,
        rounding=ROUNDING.format(before["test/elbo"]) if rounded else "",
        machine=conditions(machine()),
    )
    with (target / "README.md").open("a", encoding="utf-8") as file:
        file.write(how)
    for key, value in read_shared(target).state_dict().items():
        assert torch.equal(value, source.model.state_dict()[key]), key
    size = sum(path.stat().st_size for path in target.iterdir())
    found = [(key, value) for key, value in sorted(figures.items()) if key.startswith("test/")]
    return [
        {"model": name, "figure": key, "trained": before.get(key, ""), "shipped": value}
        for key, value in [*found, ("bytes", size)]
    ]


def _halve(weights: Path) -> None:
    state = {n: t.half() if t.is_floating_point() else t for n, t in load_file(weights).items()}
    save_file(state, weights, metadata={"format": "pt"})
    weights.chmod(0o644)


def tested(model: DiscreteVAE) -> dict[str, float]:
    """Test a model on MNIST.

    Args:
        model: The model.
    """
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False)
    (found,) = trainer.test(model, datamodule=MNIST(batch_size=200), verbose=False)
    return dict(found)


def _tested(folder: Path) -> dict[str, float]:
    metrics = RunFolder(folder).metrics
    curves = read_curves(metrics) if metrics.is_file() else {}
    return {name: points[-1][1] for name, points in curves.items() if name.startswith("test/")}


def main() -> None:
    """Make the models that are asked for; write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(MODELS)}; or all")
    names = parser.parse_args().names or list(MODELS)
    for name in names:
        if name not in MODELS:
            parser.error(f"there is no model {name!r}; there are {', '.join(MODELS)}")
    rows = [{**row, **machine()} for name in names for row in ship(name)]
    for row in rows:
        print(*row.values())
    others = [row for row in read_csv("shipped") if row["model"] not in names]
    print(write_csv("shipped", [*others, *rows]))


if __name__ == "__main__":
    main()
