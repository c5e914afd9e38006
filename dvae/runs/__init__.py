"""The folder of a run and all that is in it."""

__all__ = ["config", "curves", "files", "layout"]
