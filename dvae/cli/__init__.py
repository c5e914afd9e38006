"""The command line: train, validate, test and predict from a YAML file, and the tools around it.

`dvae.cli.main` is the `dvae` of a shell; `dvae.cli.training.DVAECLI` what it trains with.
"""

from typing import Any

from dvae.cli.door import main

__all__ = ["DVAECLI", "main"]


def __getattr__(name: str) -> Any:
    if name == "DVAECLI":  # it costs Lightning, which a list of configs does not need
        from dvae.cli.training import DVAECLI

        return DVAECLI
    raise AttributeError(f"module 'dvae.cli' has no attribute {name!r}")
