"""Random state, data order and place go on from every checkpoint, so that resuming is exact."""

from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist
from pytorch_lightning.callbacks import Callback

from dvae.callbacks.place import begin_at_place, settle_place
from dvae.models.random_streams import random_state, separate_stream, set_random_state

__all__ = ["RandomState"]


class RandomState(Callback):
    """Save torch's random state with each checkpoint and restore it when training resumes.

    Lightning saves weights, optimizers and data order, but not this. It is restored after the
    sanity check, just before the first batch; a loader that draws from the global generator
    after that (a DataLoader without a generator of its own) would spoil it.

    Each of several processes has its own state. As many as there were go on from theirs; of another
    number the first one goes on, and the others part from it anew.

    The data order is restored here as well: Lightning (2.6) saves it, and does not load it into a
    run whose length is given in epochs and that resumes from the end of one, nor where a model asks
    for the length of the run before the checkpoint is restored: the stream would begin anew. The
    place in the epochs is written so that Lightning finds it again
    however the run has ended and will end, see `dvae.callbacks.place`.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, Any] | None = None
        self._order: list[dict[str, Any]] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the state of this process."""
        return dict(random_state())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state until training starts."""
        self._loaded = state_dict

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the place and the states of the other processes; all come here, though one writes."""
        settle_place(trainer, checkpoint)
        if trainer.world_size == 1:
            return
        states: list[Any] = [None] * trainer.world_size
        dist.all_gather_object(states, self.state_dict())
        checkpoint["callbacks"][self.state_key] = {**states[0], "others": states[1:]}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the place in the data until training starts."""
        loop = checkpoint.get("loops", {}).get("fit_loop", {}).get("state_dict", {})
        self._order = loop.get("combined_loader", [])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the state once: the first batch may draw as soon as it is on the device."""
        begin_at_place(trainer)
        loader: Any = trainer.train_dataloader
        if len(self._order) == 1 and hasattr(loader, "load_state_dict"):
            loader.load_state_dict(self._order[0])
        self._order = []
        if self._loaded is None:
            return
        states = [self._loaded, *self._loaded.get("others", [])]
        if len(states) == trainer.world_size:
            set_random_state(states[trainer.global_rank])
        else:
            set_random_state(states[0])
            separate_stream(trainer.global_rank)
        self._loaded = None
