"""Events that are not images: real values and the rows of a table."""

import csv
import math

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from dvae.bottlenecks import CategoricalBottleneck
from dvae.callbacks import LatentInspector, Reconstructions
from dvae.data import Table
from dvae.likelihoods import Bernoulli, GaussianVector
from dvae.models import CategoricalVAE
from dvae.models.evaluation import exact_log_px
from dvae.networks import MLP
from tests.toy import toy_trainer


def write_table(path, count=60):
    """Write rows around three centers, far from 0 and of unequal sizes, with a constant column."""
    generator = np.random.default_rng(0)
    centers = np.array([[500.0, -3.0], [900.0, -3.0], [500.0, 4.0]])
    kind = np.arange(count) % 3
    values = centers[kind] + generator.normal(size=(count, 2)) * [20.0, 0.3]
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["large", "kind", "small", "constant"])
        lines.writerows([a, "abc"[k], b, 7] for (a, b), k in zip(values, kind, strict=True))
    return torch.from_numpy(values), torch.from_numpy(kind)


def table_model(**kwargs):
    return CategoricalVAE(
        MLP(event_shape=(3,), hidden=(8,)),
        CategoricalBottleneck(2, 3),
        GaussianVector(),
        **kwargs,
    )


@pytest.fixture
def table(tmp_path):
    write_table(tmp_path / "mine.csv")
    return Table(str(tmp_path / "mine.csv"), label="kind", batch_size=16)


def test_the_density_integrates_to_one_wherever_the_values_lie():
    likelihood = GaussianVector(sigma=0.5)
    likelihood.build((2,))
    with torch.no_grad():
        likelihood.log_sigma += torch.tensor([0.0, 1.0])
    side = torch.linspace(-30, 30, 601)
    points = torch.cartesian_prod(side, side)
    mean = torch.tensor([-5.0, 7.0])
    density = likelihood.log_prob(mean, points).exp()
    assert density.sum().item() * 0.1**2 == pytest.approx(1, abs=1e-4)
    assert torch.equal(likelihood.mean(mean), mean)  # nothing is clipped
    expected = torch.stack([likelihood.log_prob(p, points[:9]) for p in points[:4]])
    torch.testing.assert_close(likelihood.pairwise_log_prob(points[:4], points[:9]), expected)


def test_a_column_that_never_varies_has_a_finite_density():
    likelihood = GaussianVector(floor=0.1)
    likelihood.build((2,))
    with torch.no_grad():
        likelihood.log_sigma.fill_(-100.0)
    expected = 2 * (-math.log(0.1) - 0.5 * math.log(2 * math.pi))
    found = likelihood.log_prob(torch.zeros(2), torch.zeros(2)).item()
    assert found == pytest.approx(expected)


def test_the_bound_is_below_the_sum_over_all_codes():
    torch.manual_seed(0)
    model = table_model().eval()
    x = 5 * torch.randn(40, 3)
    with torch.no_grad():
        exact = exact_log_px(x, model, 4)
        codes = torch.cartesian_prod(torch.arange(3), torch.arange(3))
        params = model.decoder(model.bottleneck.embed(codes))
        log_px = torch.stack([model.likelihood.log_prob(p, x) for p in params])
        torch.testing.assert_close(exact, (log_px - math.log(9)).logsumexp(0))
        q = model.bottleneck(model.encoder(x))
        log_q = q.log_prob(codes.unsqueeze(1).expand(-1, 40, -1))
        elbo = (log_q.exp() * (log_px - math.log(9) - log_q)).sum(0)
    assert (elbo <= exact + 1e-4).all() and (elbo < exact - 1e-4).any()


def test_a_table_is_standardised_by_its_training_rows_and_restored(tmp_path, table):
    values, kind = write_table(tmp_path / "mine.csv")
    train, test = table.load("train"), table.load("test")
    assert table.columns == ["large", "small", "constant"] and table.image_shape == (3,)
    assert table.class_names == ["a", "b", "c"] and table.num_classes == 3
    torch.testing.assert_close(train.images[:, :2].mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(train.images[:, :2].std(0, correction=0), torch.ones(2))
    assert not train.images[:, 2].any()
    tested = torch.arange(9, 60, 10)
    assert torch.equal(test.labels, kind[tested])
    torch.testing.assert_close(table.restore(test.images)[:, :2], values[tested], rtol=1e-6, atol=0)
    assert "events of 3" in table.protocol


def test_every_form_of_a_batch_is_the_same_events(table):
    torch.manual_seed(0)
    model, x = table_model(), table.load("test").images
    y = torch.arange(len(x))
    expected = model.encode(x)
    rows = [{"x": one, "label": 0} for one in x]
    for batch in [
        (x,),
        [x, y],
        {"x": x},
        x.numpy(),
        x.double(),
        list(x),
        list(zip(x, y, strict=True)),
        rows,
    ]:
        assert torch.equal(model.encode(batch), expected)
    pixels = torch.randint(256, (5, 3)).byte()
    assert torch.equal(model.images_of(pixels), pixels.float())  # nothing is scaled


def test_it_trains_on_any_loader_and_draws_curves(tmp_path):
    x = torch.randn(64, 3) * 10
    loader = DataLoader(TensorDataset(x), batch_size=16)
    torch.manual_seed(0)
    model = table_model()
    looks = [Reconstructions(count=3), LatentInspector(every_n_epochs=1)]
    trainer = toy_trainer(tmp_path, max_epochs=1, callbacks=looks)
    trainer.fit(model, loader, loader)
    result = trainer.test(model, loader, verbose=False)[0]
    assert result["test/bits_per_dim"] == pytest.approx(
        -result["test/elbo"] / (3 * math.log(2)), rel=1e-5
    )
    assert result["test/elbo"] <= result["test/log_px"] + 1e-3
    drawn = {path.parent.name for path in tmp_path.rglob("*.png")}
    assert {"reconstructions", "samples", "latent_usage", "latent_entropy"} <= drawn
    assert not drawn & {"latent_traversal", "latent_table_images"}


@pytest.mark.parametrize(
    ("lines", "settings", "message"),
    [
        ("a,b\n1,2\n3\n", {}, "each row must have 2 values; got 1 in row 2"),
        ("a,b\n1,x\n", {}, "all columns but data.label must hold numbers; row 1"),
        ("a,b\n1,nan\n2,3\n", {}, "all values must be finite"),
        ("a,b\n1,2\n", {"label": "c"}, "has no column 'c'; it has a, b"),
        ("a,b\n1,2\n", {}, "there must be >= 2 rows"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_in_one_line(tmp_path, lines, settings, message):
    path = tmp_path / "bad.csv"
    path.write_text(lines)
    with pytest.raises(ValueError, match=message) as error:
        Table(str(path), **settings).load("train")
    assert "\n" not in str(error.value)


def test_what_is_for_images_says_so_in_one_line(tmp_path, table):
    model = table_model()
    with pytest.raises(ValueError, match=r"for models of images; got one of events of shape \(3,"):
        _ = model.image_shape
    with pytest.raises(ValueError, match="Bernoulli weighs the pixels of images"):
        CategoricalVAE(MLP(event_shape=(3,), hidden=(8,)), likelihood=Bernoulli())
    with pytest.raises(ValueError, match=r"has events of shape \[3\] and the model is for"):
        wrong = CategoricalVAE(MLP(event_shape=(4,)), likelihood=GaussianVector())
        toy_trainer(tmp_path).validate(wrong, table, verbose=False)
    with pytest.raises(ValueError, match=r"of shape \[3\] and the model is for \[1, 28, 28\]: set"):
        CategoricalVAE().check_image_shape(table.image_shape)
    with pytest.raises(ValueError, match=r"events must be \(B, 3\); got \(5, 2\)"):
        model.encode(torch.zeros(5, 2))
    with pytest.raises(ValueError, match="values must be finite"):
        model.encode(torch.full((5, 3), math.nan))
    with pytest.raises(ValueError, match=r"must be a .csv file, or one of breast_cancer, .*; got"):
        Table("mine").load("train")
