"""One training step of every part, with a GPU that refuses to be waited for."""

import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from benchmarks.gpu.part import arguments, table
from dvae.bottlenecks import (
    FSQ,
    LFQ,
    VQ,
    Bottleneck,
    CategoricalBottleneck,
    DistanceCodebook,
    DiVeQ,
    ProjectedCodebook,
    ResidualVQ,
    RotationVQ,
    SimVQ,
    Upkeep,
)
from dvae.data import MNIST
from dvae.estimators import VIMCO, GumbelSoftmax, ReinMax, StraightThrough
from dvae.likelihoods import LIKELIHOODS
from dvae.models import ELBO, IWAE, CategoricalVAE, CodebookVAE, DiscreteVAE
from dvae.networks import MLP, ResNet
from dvae.priors import PRIORS
from tests.estimators.catalogue import named

SIZE = (1, 8, 8)


def categorical(estimator: Any = None, codes: int = 4, **given: Any) -> DiscreteVAE:
    """Build a small model of categorical latents."""
    bottleneck = CategoricalBottleneck(3, codes, estimator)
    return CategoricalVAE(MLP(SIZE, hidden=(16,)), bottleneck, **given)


def codebook(bottleneck: Bottleneck, **given: Any) -> DiscreteVAE:
    """Build a small model of a grid of codes."""
    return CodebookVAE(ResNet(SIZE, width=8, blocks=1, halvings=1), bottleneck, **given)


def quantizer(kind: type[Any], **given: Any) -> DiscreteVAE:
    """Build a small model of a quantizer, without what is done now and then."""
    return codebook(kind(16, 4, upkeep=Upkeep(kmeans=0, revive_after=0), **given))


def models() -> Iterator[tuple[str, Callable[[], DiscreteVAE]]]:
    """List what there is."""
    # Of two codes those that take no more.
    sizes = dict.fromkeys(named(3, 2), 2) | dict.fromkeys(named(3, 4), 4)
    for name, codes in sizes.items():
        made = named(3, codes)[name]
        yield f"estimator {name}", lambda e=made, k=codes: categorical(e, k)
    kept = Upkeep(kmeans=0)
    for kernel in ("plain", "blocked", "triton"):
        for estimator in (GumbelSoftmax(0.7), GumbelSoftmax(0.7, hard=True), StraightThrough()):
            if kernel == "triton" and not torch.cuda.is_available():
                continue
            yield (
                f"code book {kernel} {estimator}",
                lambda e=estimator, k=kernel: codebook(
                    ProjectedCodebook(16, 4, 8, e, upkeep=kept, kernel=k)
                ),
            )
    yield (
        "code book blocked ReinMax",
        lambda: codebook(ProjectedCodebook(16, 4, 8, ReinMax(), upkeep=kept, kernel="blocked")),
    )
    for name, prior in PRIORS.items():
        yield (
            f"code book, {name}",
            lambda p=prior: codebook(ProjectedCodebook(16, 4, 8, upkeep=kept), prior=p()),
        )
    yield "distance code book", lambda: codebook(DistanceCodebook(16, 4, upkeep=kept))
    for kind in (VQ, RotationVQ, DiVeQ):
        yield f"quantizer {kind.__name__}", lambda k=kind: quantizer(k)
    yield "quantizer ResidualVQ", lambda: quantizer(ResidualVQ)
    yield "quantizer SimVQ", lambda: codebook(SimVQ(16, 4))
    yield "quantizer FSQ", lambda: codebook(FSQ((4, 3)))
    yield "quantizer LFQ", lambda: codebook(LFQ(4))
    for name, likelihood in LIKELIHOODS.items():
        if not likelihood.pixels:
            continue
        yield f"likelihood {name}", lambda make=likelihood: categorical(likelihood=make())
    yield "objective ELBO of 3", lambda: categorical(objective=ELBO(samples=3))
    yield "objective IWAE", lambda: categorical(objective=IWAE(3))
    yield "objective IWAE, VIMCO", lambda: categorical(VIMCO(3), objective=IWAE(3))


def step(model: DiscreteVAE, x: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Take a step as Lightning does, without Lightning."""
    with model.bottleneck.accumulating():
        q = model.bottleneck(model.encoder(x), model.prior)
        out = model.objective(lambda z: model.log_px(z, x), q, model.prior)
    out.loss.backward()
    model.bottleneck.step()
    optimizer.step()
    optimizer.zero_grad()


def check(make: Callable[[], DiscreteVAE], device: str) -> None:
    """Take two steps, and two more that may not wait."""
    model = make().to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    x = torch.rand(6, *SIZE, device=device)
    for number in range(4):
        if device == "cuda" and number == 2:
            torch.cuda.set_sync_debug_mode("error")
        try:
            step(model, x, optimizer)
        finally:
            if device == "cuda":
                torch.cuda.set_sync_debug_mode("default")
    if device == "cuda":
        torch.cuda.synchronize()
    assert all(p.isfinite().all() for p in model.parameters())


class Watch(pl.Callback):
    """Let the GPU warn of waits from a step to another."""

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        """Begin after the start is over."""
        if trainer.global_step == 20:
            torch.cuda.set_sync_debug_mode("warn")

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        """End with the last step."""
        if trainer.global_step == 120:
            torch.cuda.set_sync_debug_mode("default")


def waits_of_a_fit() -> Counter[str]:
    """Count the waits in 100 steps of a fit with the callbacks that it has by default."""
    from dvae.callbacks import Anneal, NonFinite, RandomState, StopOnSignal
    from dvae.schedules import Cosine

    found: Counter[str] = Counter()
    with warnings.catch_warnings(record=True) as caught, tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("always")
        trainer = pl.Trainer(
            max_steps=120,
            devices=1,
            default_root_dir=folder,
            logger=pl.loggers.CSVLogger(folder),
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            callbacks=[
                *(Anneal("tau", Cosine(1.0, 0.4)), RandomState(), NonFinite(), StopOnSignal()),
                Watch(),
            ],
        )
        trainer.fit(CategoricalVAE(), datamodule=MNIST(batch_size=200))
        for warning in caught:
            if "synchronizing CUDA" in str(warning.message):
                place = Path(warning.filename)
                found[f"{place.parent.name}/{place.name}:{warning.lineno}"] += 1
    return found


def main() -> None:
    """Check every model, and fail where one waits."""
    args = arguments(__doc__ or "")
    rows: list[dict[str, object]] = []
    for what, make in models():
        try:
            check(make, args.device)
            rows.append({"model": what, "ended": "passed", "said": ""})
        except Exception as error:
            last = error.__traceback__
            while (
                last is not None
                and last.tb_next is not None
                and "/torch/" not in last.tb_next.tb_frame.f_code.co_filename
            ):
                last = last.tb_next
            where = (
                f"{Path(last.tb_frame.f_code.co_filename).name}:{last.tb_lineno}" if last else ""
            )
            said = f"{where}: {' '.join(str(error).split())[:160]}"
            rows.append({"model": what, "ended": "FAILED", "said": said})
        print(rows[-1], flush=True)
        table("steps", rows, args, show=False)
    table("steps", rows, args)
    if args.device == "cuda":
        for place, times in waits_of_a_fit().most_common():
            print(f"waits in 100 steps of a fit: {times:4} at {place}")
    failed = sum(row["ended"] == "FAILED" for row in rows)
    how = " without a wait" if args.device == "cuda" else ""
    print(f"{len(rows) - failed} of {len(rows)} models take steps{how}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
