import csv

import pytest
import yaml

NAMES = ["anneal/lr", "anneal/tau", "epoch", "step", "test/elbo", "val/elbo", "val/usage"]


def settings(tau_end=0.1, lr=0.01, **more):
    """Settings with the layout of a run's own."""
    optimizer = {"class_path": "torch.optim.AdamW", "init_args": {"lr": lr, "betas": [0.9, 0.99]}}
    cosine = {"class_path": "dvae.schedules.Cosine", "init_args": {"start": 1.0, "end": tau_end}}
    model = {"class_path": "dvae.models.CategoricalVAE", "init_args": {"optimizer": optimizer}}
    return {"seed_everything": 0, "model": model, "anneal": {"tau": cosine, "beta": None}, **more}


@pytest.fixture
def make_run(tmp_path):
    """Write a run and return its folder."""

    def make(name, elbos=(-120.0, -101.25, -103.5), test=-102.75, config=None):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        config = settings() if config is None else config
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        with (folder / "metrics.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, NAMES)
            writer.writeheader()
            for epoch, elbo in enumerate(elbos):
                step = 100 * epoch + 99
                writer.writerow({"step": step, "anneal/lr": 0.01, "anneal/tau": 1 - 0.1 * epoch})
                writer.writerow({"step": step, "epoch": epoch, "val/elbo": elbo, "val/usage": 0.5})
            writer.writerow({"step": 300, "test/elbo": test})
        return folder

    return make
