import pytest

from dvae.cli import main


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """The folder of a short run of the command line: 4 latents of 5 categories on MNIST."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("WANDB_MODE", "disabled")
        args = ["fit", "--data=MNIST", "--experiment=x", "--trainer.accelerator=cpu"]
        args += ["--model=CategoricalVAE", "--model.network=MLP", "--model.network.hidden=[32]"]
        args += ["--model.bottleneck=CategoricalBottleneck", "--model.bottleneck.num_latents=4"]
        args += ["--model.bottleneck.num_codes=5", "--model.bottleneck.estimator=ReinMax"]
        args += ["--model.lr_schedule=Cosine", "--model.lr_schedule.start=1.0"]
        args += ["--model.lr_schedule.end=0.1", "--model.evaluation.iwae_samples=2"]
        args += ["--trainer.max_epochs=2", "--trainer.limit_train_batches=20"]
        args += ["--trainer.limit_test_batches=2", "--trainer.enable_progress_bar=false"]
        assert main(args) == 0
    return folder / "runs" / "x" / "version_0"


@pytest.fixture
def best(run):
    return run / "checkpoints" / "best.ckpt"
