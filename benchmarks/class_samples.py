"""Whether samples of a class are of that class: judged by a classifier trained on the real images.

    python train.py fit --config configs/mnist_codebook.yaml
    python train.py fit --config configs/mnist_codebook_prior.yaml --model.prior.num_classes 10 \
        --init_from runs/mnist_codebook/version_0
    python -m benchmarks.class_samples runs/mnist_codebook_prior/version_0

The data set is the run's own: with `--data FashionMNIST` in both trainings, that one. Beside the
samples of the prior stand those of independent uniform codes by the same decoder, which have no
class: of ten, one in ten is right by chance. A seed a run; several runs make several rows.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

import dvae
from benchmarks.measure import RESULTS, read_csv, write_csv
from dvae import data as data_sets
from dvae.plotting import labelled_rows
from dvae.runs.config import read_config

__all__ = ["main"]

CLASSES, SHOWN = 10, 10


class Classifier(nn.Sequential):
    """Three convolutions with batch norm; of MNIST's test images it is right about 99.2%."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for before, after in ((1, 32), (32, 64), (64, 128)):
            conv = nn.Conv2d(before, after, 3, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        super().__init__(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(128 * 9, CLASSES))


def train_classifier(name: str, epochs: int, seed: int) -> tuple[nn.Module, float]:
    """Train on the real images and test on those held out.

    Args:
        name: Class of the data set, in `dvae.data`.
        epochs: Passes over the training images.
        seed: Seed of the weights and the order.

    Returns:
        The classifier, in evaluation, and the fraction of test images that it gets right.
    """
    torch.manual_seed(seed)
    module = getattr(data_sets, name)(batch_size=128)
    module.prepare_data()
    for part in ("fit", "test"):
        module.setup(part)
    net, batches = Classifier(), module.train_dataloader()
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, epochs * len(batches))
    for epoch in range(epochs):
        for batch in batches:
            loss = F.cross_entropy(net(batch.image / 255), batch.label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"classifier: epoch {epoch + 1} of {epochs}, loss {loss.item():.3f}", flush=True)
    net.eval()
    with torch.no_grad():
        hits = [net(x.image / 255).argmax(1) == x.label for x in module.test_dataloader()]
    return net, torch.cat(hits).double().mean().item()


def right(net: nn.Module, images: Tensor, label: Tensor) -> float:
    """Return the fraction of images that are of the wanted class.

    Args:
        net: The classifier.
        images: ``(N, 1, 28, 28)``.
        label: ``(N,)``.
    """
    with torch.no_grad():
        return round((net(images).argmax(1) == label).double().mean().item(), 4)


def main() -> None:
    """Train the classifier, draw, judge, write a row and a picture."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a run whose prior knows the classes")
    parser.add_argument("--each", type=int, default=100, help="samples of a class")
    parser.add_argument("--epochs", type=int, default=3, help="of the classifier")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--temperature", type=float, default=1.0)
    args = parser.parse_args()
    config = read_config(args.run / "config.yaml")
    name = config["data"]["class_path"].rsplit(".", 1)[1]
    model = dvae.load(args.run)
    if model.prior.num_classes != CLASSES:
        parser.error(f"a prior with num_classes {CLASSES} is needed; got {model.prior}")
    net, accuracy = train_classifier(name, args.epochs, args.seed)
    label = torch.arange(CLASSES).repeat_interleave(args.each)
    noise = Generator().manual_seed(args.seed)
    drawn = model.sample(len(label), noise, label, temperature=args.temperature)
    shape = (len(label), *model.prior.index_shape)
    uniform = model.decode(torch.randint(model.prior.num_codes, shape, generator=noise))
    row = {
        "data": name,
        "seed": config["seed_everything"],
        "prior": type(model.prior).__name__,
        "temperature": args.temperature,
        "samples": CLASSES * args.each,
        "right_class": right(net, drawn, label),
        "right_class_uniform": right(net, uniform, label),
        "classifier_test_accuracy": round(accuracy, 4),
    }
    print(row)
    rows = drawn.unflatten(0, (CLASSES, args.each))[:, :SHOWN]
    shown = {str(number): images for number, images in enumerate(rows)}
    shown["independent uniform codes"] = uniform[:SHOWN]
    labelled_rows(shown).save(RESULTS / f"class_samples_{name.lower()}.png")
    key = ("data", "seed", "temperature")
    before = read_csv("class_samples")
    kept = [x for x in before if any(x[k] != str(row[k]) for k in key)]
    print(write_csv("class_samples", [*kept, row]))


if __name__ == "__main__":
    main()
