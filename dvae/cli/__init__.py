"""The command line: fit, validate and test from a YAML file."""

from dvae.cli.main import DVAECLI, main

__all__ = ["DVAECLI", "main"]
