"""The folder of a run and all that is in it."""

__all__ = ["checkpoints", "config", "curves", "files", "layout", "resume", "trust"]
