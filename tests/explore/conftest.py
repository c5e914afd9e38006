import pytest
import torch

from dvae.scalars import annealable_scalars
from dvae.sharing.config import build_model

CATEGORICAL = {
    "class_path": "dvae.models.CategoricalVAE",
    "init_args": {
        "network": {"class_path": "dvae.networks.MLP", "init_args": {"hidden": [16]}},
        "bottleneck": {
            "class_path": "dvae.bottlenecks.CategoricalBottleneck",
            "init_args": {"num_latents": 4, "num_codes": 5},
        },
    },
}
GRID = {
    "class_path": "dvae.models.CodebookVAE",
    "init_args": {
        "network": {
            "class_path": "dvae.networks.ResNet",
            "init_args": {"image_shape": [1, 28, 28], "width": 8, "blocks": 1},
        },
        "bottleneck": {
            "class_path": "dvae.bottlenecks.ProjectedCodebook",
            "init_args": {"num_codes": 6, "code_dim": 4},
        },
    },
}


def with_bottleneck(config, name, **settings):
    """Return the config with another bottleneck."""
    bottleneck = {"class_path": f"dvae.bottlenecks.{name}", "init_args": settings}
    return {**config, "init_args": {**config["init_args"], "bottleneck": bottleneck}}


LEVELS = with_bottleneck(GRID, "ResidualVQ", num_codes=6, code_dim=4, depth=2)
DIVEQ = with_bottleneck(GRID, "DiVeQ", num_codes=6, code_dim=4)
PRODUCT = with_bottleneck(GRID, "ProductCodebook", num_codes=6, code_dim=4)


RESIDUAL = with_bottleneck(GRID, "ResidualCodebook", num_codes=6, code_dim=4)


def with_prior(config, name, **settings):
    """Return the config with a small learned prior."""
    prior = {"class_path": f"dvae.priors.{name}", "init_args": settings}
    return {**config, "init_args": {**config["init_args"], "prior": prior}}


SMALL = {"width": 8, "depth": 1, "heads": 2}
PRIORS = {
    "uniform": GRID,
    "MADE": with_prior(GRID, "MADEPrior", width=2),
    "autoregressive": with_prior(GRID, "AutoregressivePrior", num_classes=10, **SMALL),
    "masked": with_prior(GRID, "MaskedPrior", steps=3, num_classes=3, **SMALL),
    "latents": with_prior(CATEGORICAL, "CategoricalPrior"),
    "levels": LEVELS,
    "product": with_prior(PRODUCT, "CategoricalPrior"),
    "residual": with_prior(RESIDUAL, "CategoricalPrior"),
}


def built(config, seed=0):
    torch.manual_seed(seed)
    return build_model(config).eval()


def written(path, config, step=0, tau=None, seed=0):
    """Write a checkpoint as the command line does."""
    model = built(config, seed)
    if tau is not None:
        scalars = {name.rpartition(".")[2]: ref for name, ref in annealable_scalars(model).items()}
        scalars["tau"].buffer.fill_(tau)
    settings = {"_class_path": config["class_path"], **config["init_args"]}
    content = {
        "state_dict": model.state_dict(),
        "hyper_parameters": settings,
        "global_step": step,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


KINDS = {
    "categorical": CATEGORICAL,
    "grid": GRID,
    "levels": LEVELS,
    "diveq": DIVEQ,
    "product": PRODUCT,
    "residual": RESIDUAL,
}


@pytest.fixture(params=KINDS)
def model(request):
    return built(KINDS[request.param])
