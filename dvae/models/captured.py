"""A whole training step in two launches: the loss with its gradients, and the optimizer's update.

A small model's step is over a hundred kernels of a few microseconds, which a GPU waits for while
the host launches them one by one. Captured, they are launched as one.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any

import torch
from pytorch_lightning import Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from dvae.data.batch import Batch
from dvae.models.gradients import loss_scaler
from dvae.models.objectives import ObjectiveOutput
from dvae.stepwise import Stepwise

__all__ = ["CapturedStep", "capture_update", "is_steady"]

# Steps that are taken as they are written before one is captured: libraries make handles and work
# spaces in them, and an optimizer its state.
WARM_UP = 3


def is_steady(trainer: Trainer, *parts: Stepwise) -> bool:
    """Say whether every step launches the same kernels on the same tensors.

    Not where several processes have to agree, or a loss is scaled by what gradients allow.

    Args:
        trainer: Trainer of the fit.
        parts: Bottleneck and likelihood. Those that take a step of their own count in Python, or
            look at what they counted: a code book that revives codes, a running variance.
    """
    one = trainer.world_size == 1 and loss_scaler(trainer) is None
    return one and all(type(part).step is Stepwise.step for part in parts)


def record(work: Callable[[], None]) -> Callable[[], None]:
    """Capture what is launched; nothing is computed.

    Nor may it be, to warm up: one more update of a running mean such as `Reinforce`'s is seen in
    the weights, by 1e-4 of themselves after a dozen steps, where other roundings make 1e-7.

    Args:
        work: Launches kernels and waits for none of them.

    Returns:
        What launches all of it again, on the same memory.

    Raises:
        RuntimeError: It waits for the device.
    """
    graph = torch.cuda.CUDAGraph()
    # A loader's thread may pin memory meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    replay: Callable[[], None] = graph.replay
    return replay


class CapturedStep:
    """The loss of a batch and its gradients: captured once, then replayed on each batch like it.

    A batch of another shape, and one after other parameters are trained, is left to the caller.
    Weights, temperatures and running averages have to move in place; noise comes from the global
    generator, and is the one that the same steps would draw as they are written.

    Args:
        compute: A batch to the objective's output, without a look at numbers.
        parameters: Parameters of the model.
    """

    def __init__(
        self, compute: Callable[[Batch], ObjectiveOutput], parameters: Iterable[nn.Parameter]
    ) -> None:
        self._compute, self._parameters = compute, list(parameters)
        self._steps = 0
        self._key: Any = None
        self._replay: Callable[[], None] | None = None
        self._is_fresh = False

    def __call__(self, batch: Batch) -> ObjectiveOutput | None:
        """Evaluate the loss and its gradients; see `give_gradients`.

        Args:
            batch: Images and labels.

        Returns:
            What the objective returns, without a graph and valid until the next call; ``None``
            where the step is to be taken as it is written.

        Raises:
            RuntimeError: The step cannot be captured.
        """
        self._is_fresh = False
        if self._steps < WARM_UP:
            self._steps += 1
            return None
        if self._replay is None:
            self._capture(batch)
        assert self._replay is not None
        if self._key != self._key_of(batch):
            return None
        self._batch.image.copy_(batch.image, non_blocking=True)
        if self._batch.label is not None and batch.label is not None:
            self._batch.label.copy_(batch.label, non_blocking=True)
        self._replay()
        self._is_fresh = True
        return self._out

    def give_gradients(self) -> bool:
        """Hand the gradients to the parameters, if they are those of the last call.

        Returns:
            Whether they are; else the caller has to compute them.
        """
        if self._is_fresh:
            for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
                parameter.grad = gradient
        return self._is_fresh

    def has_given(self) -> bool:
        """Say whether all parameters have the gradients that were handed to them."""
        pairs = zip(self._parameters, self._gradients, strict=True) if self._is_fresh else ()
        return self._is_fresh and all(p.grad is g for p, g in pairs)

    def _capture(self, batch: Batch) -> None:
        device = self._parameters[0].device
        label = None if batch.label is None else batch.label.to(device, copy=True)
        self._batch = Batch(batch.image.to(device, copy=True), label)
        for parameter in self._parameters:
            parameter.grad = None  # so that those of the graph have memory of their own
        try:
            self._replay = record(self._work)
        except RuntimeError as error:
            reason = str(error).split("\n")[0]
            raise RuntimeError(
                f"model.compile cuda-graphs cannot capture this step ({reason}): use true"
            ) from error
        self._gradients = [parameter.grad for parameter in self._parameters]
        self._key = self._key_of(batch)

    def _work(self) -> None:
        out = self._compute(self._batch)
        with torch.autocast(self._batch.image.device.type, enabled=False):
            out.loss.backward()  # type: ignore[no-untyped-call]
        kept = {name: _detached(value) for name, value in vars(out).items()}
        self._out = ObjectiveOutput(**kept)

    def _key_of(self, batch: Batch) -> Any:
        kinds = [None if x is None else (x.shape, x.dtype) for x in batch]
        return kinds, [parameter.requires_grad for parameter in self._parameters]


def _detached(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach()
    return value if value is None else {name: _detached(x) for name, x in value.items()}


def capture_update(optimizer: Optimizer, step: CapturedStep) -> None:
    """Have an optimizer replay its update after gradients of a captured step.

    Of others than torch's fused Adam and AdamW, which keep all that moves on the device, nothing
    is changed. A learning rate may move; an update with other settings changed, or with gradients
    that somebody took away, is made as it is written.

    Args:
        optimizer: Optimizer of the parameters; its ``step`` is replaced, as torch's schedules do.
        step: Whose gradients it takes.
    """
    groups = optimizer.param_groups
    if not all(group.get("fused") and "capturable" in group for group in groups):
        return
    rates = [torch.zeros((), device=group["params"][0].device) for group in groups]
    written: list[float] = []
    plain = optimizer.step
    captured: list[Any] = []

    def work(capturing: bool) -> None:
        with _rates_of_device(groups, rates, capturing):
            plain()

    @wraps(plain)
    def update(closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        wanted = [float(group["lr"]) for group in groups]
        if wanted != written:
            for rate, value in zip(rates, wanted, strict=True):
                rate.fill_(value)
            written[:] = wanted
        if step.has_given() and not captured:
            captured.extend((_settings(groups), record(partial(work, True))))
        if step.has_given() and captured[0] == _settings(groups):
            captured[1]()
        else:
            work(False)
        return loss

    optimizer.step = update  # type: ignore[method-assign]


def _settings(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    moving = ("params", "lr")
    return [{k: v for k, v in group.items() if k not in moving} for group in groups]


@contextmanager
def _rates_of_device(
    groups: list[dict[str, Any]], rates: list[Tensor], capturing: bool
) -> Iterator[None]:
    """Let learning rates be read on the device: always, or a resumed run would round them else."""
    before = [{name: group[name] for name in ("lr", "capturable")} for group in groups]
    try:
        for group, rate in zip(groups, rates, strict=True):
            group.update(lr=rate, capturable=capturing)
        yield
    finally:
        for group, values in zip(groups, before, strict=True):
            group.update(values)
