"""A command in a process of its own: what it logs, its exit code, and its errors in one line."""

import logging
import os
import signal
import sys
import warnings

from jsonargparse import ArgumentError
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from dvae.callbacks import NonFiniteError, Stopped
from dvae.cli.errors import one_line, out_of_reach
from dvae.cli.training import DVAECLI
from dvae.commands import say
from dvae.extras import MissingExtra
from dvae.models.overhead import prepare_cpu

__all__ = ["main"]

# Errors about what was asked for; any other is a fault of the program, whose traceback is wanted.
_FOR_PEOPLE = (ArgumentError, MisconfigurationException, ValueError, OSError, MissingExtra)


def main(args: list[str] | None = None, cli: type[DVAECLI] = DVAECLI) -> int:
    """Run the command line.

    Args:
        args: Arguments; those of the process by default.
        cli: What to run; a subclass may stop short of the training.

    Returns:
        The exit code: 0; 1 where the loss was not finite; 2 where the input was bad, or asked for
        more than the machine can do (``DVAE_TRACEBACK=1`` raises instead); or 128 and the number
        of the signal that stopped it.
    """
    logging.basicConfig(format="%(message)s")
    logging.getLogger("dvae").setLevel(logging.INFO)
    # Hints and advertisements; what matters of it is in the summary.
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # What a profiler or a callback has to say was asked for.
    for name in ("pytorch_lightning.callbacks", "pytorch_lightning.profilers"):
        logging.getLogger(name).setLevel(logging.INFO)
    warnings.filterwarnings("ignore", module="jsonargparse|pytorch_lightning|lightning_fabric")
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    os.environ.setdefault("WANDB_SILENT", "true")
    prepare_cpu()
    try:
        cli(args)
    except Stopped as stop:
        # The first process of a machine may watch the others, and take their code for a crash.
        return 0 if int(os.environ.get("LOCAL_RANK", "0")) else 128 + stop.number
    except Exception as error:
        # A code book may look up the place that a NaN leads to.
        of_nan = isinstance(error, NonFiniteError) or isinstance(error.__cause__, NonFiniteError)
        if not (isinstance(error, _FOR_PEOPLE) or of_nan or out_of_reach(error)):
            raise
        return say(error, one_line(error), 1 if of_nan else 2)
    except KeyboardInterrupt:
        print("\nstopped at once; --ckpt_path last resumes the newest checkpoint", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0
