"""Events over time: signals, a grid of codes with one axis, and sequences of categories."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import dvae
from dvae.bottlenecks import (
    FSQ,
    LFQ,
    VQ,
    CategoricalBottleneck,
    DistanceCodebook,
    DiVeQ,
    ProductCodebook,
    ProjectedCodebook,
    ResidualCodebook,
    ResidualVQ,
    RotationVQ,
    SimVQ,
)
from dvae.callbacks import LatentInspector, Reconstructions
from dvae.cli import main
from dvae.coding import compress
from dvae.data import Arrays, Motifs, Text
from dvae.likelihoods import Categorical, GaussianVector
from dvae.models import CategoricalVAE, CodebookVAE, Evaluation
from dvae.models.evaluation import exact_log_px
from dvae.networks import MLP, Embedded, ResNet1d
from dvae.sharing import save_pretrained
from tests.toy import toy_trainer

BOOKS = {
    "projected": lambda: ProjectedCodebook(5, 4, 4, kernel="plain"),
    "fused": lambda: ProjectedCodebook(5, 4, 4, kernel="blocked"),
    "product": lambda: ProductCodebook(5, 4, 4),
    "distance": lambda: DistanceCodebook(5, 4),
    "VQ": lambda: VQ(5, 4),
    "rotation": lambda: RotationVQ(5, 4),
    "DiVeQ": lambda: DiVeQ(5, 4),
    "SimVQ": lambda: SimVQ(5, 4),
    "LFQ": lambda: LFQ(4, 4),
    "FSQ": lambda: FSQ((3, 3), 4),
    "residual": lambda: ResidualVQ(5, 4, 2),
    "residual code": lambda: ResidualCodebook(5, 4, 2),
}


def signal_models():
    net = ResNet1d((1, 8), width=8)
    few = Evaluation(iwae_samples=4)
    yield CodebookVAE(net, ProjectedCodebook(3, 4, 4), GaussianVector(), evaluation=few)
    mlp = MLP(event_shape=(1, 8), hidden=(8,))
    yield CategoricalVAE(mlp, CategoricalBottleneck(2, 3), GaussianVector(), evaluation=few)


def sequence_models():
    few = Evaluation(iwae_samples=4)
    net = Embedded(ResNet1d((8, 8), width=8), categories=4)
    yield CodebookVAE(net, ProjectedCodebook(3, 4, 4), Categorical(4), evaluation=few)
    mlp = Embedded(MLP(event_shape=(8, 8), hidden=(8,)), categories=4)
    yield CategoricalVAE(mlp, CategoricalBottleneck(2, 3), Categorical(4), evaluation=few)


def models():
    torch.manual_seed(0)
    return [*signal_models(), *sequence_models()]


def events_for(model, count):
    shape = (count, *model.event_shape)
    noise = torch.Generator().manual_seed(0)
    if isinstance(model.likelihood, Categorical):
        return torch.randint(4, shape, generator=noise)
    return 3 * torch.randn(shape, generator=noise)


@pytest.mark.parametrize("name", BOOKS)
def test_a_grid_of_one_axis_is_that_of_one_row(name):
    torch.manual_seed(0)
    line = BOOKS[name]().eval()
    rows = BOOKS[name]().eval()
    rows.load_state_dict(line.state_dict())
    line.grid, rows.grid = (6,), (1, 6)
    features = torch.randn(3, 4, 6)
    q, p = line(features), rows(features.unsqueeze(2))
    index = q.mode()
    assert index.shape == (3, *line.index_shape)
    assert torch.equal(index, p.mode().squeeze(1))
    assert torch.equal(line.embed(index), rows.embed(index.unsqueeze(1)).squeeze(2))
    assert torch.equal(line.vectors(), rows.vectors())
    drawn = [x.draw(torch.Generator().manual_seed(1)).z for x in (q, p)]
    assert torch.equal(drawn[0], drawn[1].squeeze(2))
    assert torch.equal(line.count(index), rows.count(index.unsqueeze(1)))
    empty = line.embed(index[:0])
    assert empty.shape == (0, 4, 6)


def test_the_mass_of_all_sequences_is_one_and_pairs_equal_the_loop():
    likelihood = Categorical(3)
    likelihood.build((4,))
    every = torch.tensor(list(itertools.product(range(3), repeat=4)))
    params = 3 * torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
    log_p = torch.stack([likelihood.log_prob(row, every) for row in params])
    torch.testing.assert_close(log_p.exp().sum(1), torch.ones(5))
    torch.testing.assert_close(likelihood.pairwise_log_prob(params, every), log_p)
    torch.testing.assert_close(likelihood.log_prob(params[:, None], every), log_p)
    assert torch.equal(likelihood.mean(params), every[log_p.argmax(1)])


@pytest.mark.parametrize("place", range(4))
def test_the_bound_is_below_the_sum_over_all_codes(place):
    model = models()[place].eval()
    x = events_for(model, 30)
    with torch.no_grad():
        exact = exact_log_px(x, model, 4)
        index = model.bottleneck.states(0, 9)
        params = model.decoder(model.bottleneck.embed(index))
        log_px = torch.stack([model.likelihood.log_prob(p, x) for p in params])
        torch.testing.assert_close(exact, (log_px - math.log(9)).logsumexp(0))
        q = model.bottleneck(model.encoder(x))
        log_q = q.log_prob(index.unsqueeze(1).expand(-1, 30, *index.shape[1:]))
        elbo = (log_q.exp() * (log_px - math.log(9) - log_q)).sum(0)
    assert (elbo <= exact + 1e-4).all() and (elbo < exact - 1e-5).any()


@pytest.mark.parametrize("place", range(4))
def test_each_kind_trains_in_both_families_on_any_loader(place, tmp_path):
    model = models()[place]
    x = events_for(model, 48)
    loader = DataLoader(TensorDataset(x), batch_size=16)
    before = [p.clone() for p in model.parameters()]
    looks = [Reconstructions(count=3), LatentInspector(every_n_epochs=1)]
    trainer = toy_trainer(tmp_path, max_epochs=1, callbacks=looks)
    trainer.fit(model, loader, loader)
    result = trainer.test(model, loader, verbose=False)[0]
    assert not any(map(torch.equal, before, model.parameters()))
    assert result["test/elbo"] <= result["test/iwae"] + 1e-3
    again, sampled = model.reconstruct(x), model.sample(3)
    assert again.shape == x.shape and again.dtype == x.dtype == sampled.dtype
    drawn = {path.parent.name for path in tmp_path.rglob("*.png")}
    if x.is_floating_point():
        assert result["test/mse"] == pytest.approx((again - x).square().mean().item(), rel=1e-5)
        assert {"reconstructions", "samples"} <= drawn
    else:
        assert result["test/accuracy"] == pytest.approx((again == x).float().mean().item())
        assert not drawn & {"reconstructions", "samples"}
    assert not drawn & {"latent_traversal", "latent_table_images", "codebook_images"}


SIGNALS = """
model:
  class_path: CodebookVAE
  init_args:
    network: {class_path: ResNet1d, init_args: {event_shape: [1, 32], width: 8, halvings: 4}}
    bottleneck: {class_path: ProjectedCodebook, init_args: {num_codes: 4, code_dim: 4}}
    likelihood: GaussianVector
    prior: {class_path: AutoregressivePrior, init_args: {width: 8, depth: 1, heads: 2}}
data: {class_path: Motifs, init_args: {length: 2, count: 100}}
trainer: {max_epochs: 1, enable_progress_bar: false}
"""
LETTERS = """
model:
  class_path: CategoricalVAE
  init_args:
    network:
      class_path: Embedded
      init_args: {network: {class_path: MLP, init_args: {event_shape: [8, 5], hidden: [8]}}}
    likelihood: Categorical
data: {class_path: Text, init_args: {file: mine.txt, length: 5}}
trainer: {max_epochs: 1, enable_progress_bar: false}
"""
TABLE = """
model:
  class_path: CategoricalVAE
  init_args:
    network: {class_path: MLP, init_args: {event_shape: [2], hidden: [8]}}
    likelihood: GaussianVector
data: {class_path: Table, init_args: {table: mine.csv}}
trainer: {max_epochs: 1, enable_progress_bar: false}
"""


@pytest.mark.parametrize("config", [TABLE, SIGNALS, LETTERS], ids=["table", "signals", "letters"])
def test_the_command_line_trains_resumes_and_loads_it(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    Path("c.yaml").write_text(config)
    Path("mine.txt").write_text("It was the best of times, it was the worst of times. " * 20)
    Path("mine.csv").write_text("a,b\n" + "".join(f"{n},{n % 7}\n" for n in range(90)))
    args = ["fit", "--config", "c.yaml", "--trainer.accelerator", "cpu"]
    assert main(args) == 0
    run = "runs/c/version_{}/checkpoints/last.ckpt"
    two = [*args, "--trainer.max_epochs", "2"]
    assert main([*two, "--ckpt_path", run.format(0)]) == 0
    assert main(two) == 0
    resumed, undisturbed = (
        torch.load(run.format(n), weights_only=True)["state_dict"] for n in (1, 2)
    )
    assert resumed.keys() == undisturbed.keys()
    assert all(torch.equal(resumed[name], undisturbed[name]) for name in resumed)
    model = dvae.load(run.format(2))
    assert model.sample(4).shape == (4, *model.event_shape)
    save_pretrained(model, tmp_path / "saved")
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.parameters(), dvae.load(tmp_path / "saved").parameters(), strict=True)
    )


def test_motifs_follow_their_rule_and_are_the_same_each_time():
    data = Motifs(length=5, count=500, noise=0.0)
    order, signals = data.truth("train"), data.load("train").images
    assert set(((order[:, 1:] - order[:, :-1]) % 6).unique().tolist()) == {1, 2, 3, 4}
    assert order.unique().tolist() == list(range(6))
    parts = signals.view(500, 5, 16)
    assert torch.equal(parts, data.shapes()[order])
    assert torch.equal(signals, Motifs(length=5, count=500, noise=0.0, seed=3).load("train").images)
    assert len(data.truth("test")) == 100 and not torch.equal(data.truth("test"), order[:100])


def test_a_text_is_cut_into_letters_and_back(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("Ab, c9!\n\nZEBRA " * 10)
    data = Text(str(path), length=4)
    pieces = data.words(torch.cat([data.load("train").images, data.load("test").images]))
    whole = "ab c zebra " * 10
    assert sorted(pieces) == sorted(whole[n : n + 4] for n in range(0, 4 * len(pieces), 4))
    assert data.words(data.numbers(["Ab!z", "  zz"])) == ["ab z", "  zz"]
    assert len(Text(length=8).load("test").images) > 1000  # what comes with Python


def test_arrays_reach_the_model_as_they_are(tmp_path):
    values = np.random.default_rng(0).normal(size=(20, 2, 3)) * 100
    numbers = np.arange(40, dtype=">i2").reshape(20, 2)
    for name, array in {"values": values, "numbers": numbers, "y": np.arange(20) % 4}.items():
        np.save(tmp_path / f"{name}.npy", array)
    data = Arrays(str(tmp_path / "values.npy"), labels=str(tmp_path / "y.npy"))
    assert data.event_shape == (2, 3) and data.num_classes == 4 and data.labelled
    np.testing.assert_allclose(data.load("test").images.numpy(), values[[9, 19]], rtol=1e-6)
    assert data.load("test").labels.tolist() == [1, 3]
    whole = Arrays(str(tmp_path / "numbers.npy"))
    assert whole.load("train").images.dtype == torch.int64 and not whole.labelled
    np.save(tmp_path / "words.npy", np.array(["a", "b"]))
    for events, labels, message in (
        ("words", None, "array of numbers was expected"),
        ("y", None, r"events must be \(N, ...\); got \(20,\)"),
        ("values", "numbers", "labels must be one integer for each of 20 events"),
    ):
        given = None if labels is None else str(tmp_path / f"{labels}.npy")
        with pytest.raises(ValueError, match=message):
            Arrays(str(tmp_path / f"{events}.npy"), given).load("train")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResNet1d((64,)), r"must be channels and steps, each >= 1; got \[64\]"),
        (lambda: ResNet1d((1, 12), halvings=3), "must be a multiple of 8; got 12"),
        (lambda: ResNet1d((1, 16), width=12), "width must be a multiple of 8; got 12"),
        (lambda: Embedded(MLP()), "must be for signals of channels and steps"),
        (lambda: Embedded(ResNet1d(), categories=1), "categories must be >= 2; got 1"),
        (
            lambda: CodebookVAE(Embedded(ResNet1d()), likelihood=Categorical(5)),
            "Embedded.categories must be that of the likelihood, 5; got 27",
        ),
        (lambda: models()[2].encode(torch.full((1, 8), 4)), r"integers in \[0, 4\); got 4 to 4"),
        (lambda: models()[2].encode(torch.zeros(1, 8)), r"integers in \[0, 4\); got torch.float32"),
        (
            lambda: compress(models()[0], torch.zeros(1, 1, 8)),
            r"for models of images; got one of events of shape \(1, 8\)",
        ),
        (
            lambda: CategoricalVAE(ResNet1d()),
            "needs a network without a grid, such as MLP; got Res",
        ),
        (lambda: Text(length=0), "data.length must be >= 1; got 0"),
        (lambda: Motifs(count=1), "data.count must be >= 2; got 1"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
