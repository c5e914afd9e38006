"""The id under which wandb knows a run, in every checkpoint, so that resuming continues it."""

from typing import Any

from pytorch_lightning.callbacks import Callback

__all__ = ["RunId"]


class RunId(Callback):
    """Keep the id of the run in its checkpoints.

    Args:
        run_id: The id.
    """

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id

    def state_dict(self) -> dict[str, Any]:
        """Return the id."""
        return {"run_id": self.run_id}

    @classmethod
    def of_checkpoint(cls, content: dict[str, Any]) -> str | None:
        """Read the id of a checkpoint that has one.

        Args:
            content: Content of the checkpoint.
        """
        state = content.get("callbacks", {}).get(cls.__qualname__)
        return str(state["run_id"]) if isinstance(state, dict) and "run_id" in state else None
