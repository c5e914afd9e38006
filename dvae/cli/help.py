"""Help on one screen: our keys and what people do most; Lightning's keys on demand."""

import contextlib
import io
import re
import warnings
from collections.abc import Callable

__all__ = [
    "OVERVIEW",
    "SCHEDULE",
    "asked_for",
    "class_help",
    "help_text",
    "is_of_class",
    "key_hint",
]

OVERVIEW = """\
Discrete VAEs: train, look inside, use.

  dvae fit --config mnist_categorical     train; ends with a test and pictures in runs/
  dvae validate | test --config RUN/config.yaml --ckpt_path RUN/checkpoints/best.ckpt
  dvae predict --config RUN/config.yaml --ckpt_path RUN/checkpoints/best.ckpt   codes of images
  dvae schedule mnist_categorical         draw τ, β and learning rate before a run
  dvae compare RUN RUN ...                settings and curves of runs side by side
  dvae explore RUN/checkpoints            a page to look at codes, images and samples
  dvae lab                                bias and variance of the gradient estimators
  dvae share save CHECKPOINT --out DIR    a folder, or the Hub, for others
  dvae compress CHECKPOINT IMAGE ... --out DIR    images to one file, lossy or lossless
  dvae decompress CHECKPOINT FILE --out DIR       and back
  dvae configs                            the configs that come along

dvae COMMAND --help says more. In a checkout python train.py is the same as dvae.
"""

_FIT = """\
dvae {command} --config NAME_OR_FILE [--KEY VALUE ...]

  dvae fit --config mnist_categorical --trainer.max_epochs 5
  dvae fit --config mnist_codebook --model.bottleneck.estimator ReinMax
  dvae fit --config imagefolder --data.data_dir photos --trainer.devices 2
  dvae fit --config runs/NAME/version_0/config.yaml --ckpt_path last            goes on
  dvae fit --config finetune_fashion --init_from runs/.../best.ckpt             fine-tunes

What people set most:
  --model.optimizer.lr 1e-3              learning rate; --model.lr_schedule null keeps it
  --model.bottleneck.num_codes 64        categories K; num_latents L, code_dim D
  --model.bottleneck.estimator ReinMax   how the gradient crosses the draw
  --anneal.tau Cosine                    schedule of the temperature; .start .end .steps, or null
  --anneal.beta Linear                   schedule of the weight of the KL
  --data MNIST, --data.batch_size 200    data set and images in a step
  --trainer.max_epochs 24                length; also max_steps, max_time
  --trainer.precision bf16-mixed         arithmetic; auto for the faster one of this machine
  --seed_everything 1                    another seed

Our other keys:
  --experiment NAME                      folder of the run in runs/; the config's name by default
  --init_from RUN                        weights to start from; with --allow_mismatch what fits
  --finetune.freeze, grow, temperature, lr_scale        how a run goes on from them
  --checkpoints.every_n_steps N          checkpoints within an epoch
  --checkpoints.monitor val/psnr         what best.ckpt goes by; .mode min where less is better
  --ema 0.999                            average of the weights, for validation, test and use
  --nonfinite stop|skip                  what to do about a loss that is NaN or infinite
  --reconstructions.every_n_epochs N     pictures of images; also count
  --latents.every_n_epochs N             pictures of codes; 0 for none
  --tokens.split, folder, ...            what predict writes

All keys: --help.all. Those of a part: --help.trainer, .model, .data, .finetune, .anneal,
.reconstructions, .latents, .tokens. Of a class: --model.help CodebookVAE, --data.help ImageFolder.
"""

SCHEDULE = """\
dvae schedule NAME_OR_FILE [--KEY VALUE ...] [--out FILE]

  dvae schedule mnist_categorical
  dvae schedule mnist_codebook --anneal.tau Linear --anneal.tau.end 0.3 --out linear.png
  dvae schedule runs/NAME/version_0/config.yaml --trainer.max_epochs 100

Draws τ, β and learning rate over the steps of the run that dvae fit --config NAME_OR_FILE with the
same keys would train, as NAME_schedule.png or --out. Nothing is trained; data are loaded only where
the run is as long as its epochs, to count them (--trainer.max_epochs -1 --trainer.max_steps N
needs none). Keys: dvae fit --help.
"""

# What other programs call it.
_WISHES = {
    **dict.fromkeys(("lr", "learning_rate", "learning-rate"), "--model.optimizer.lr"),
    **dict.fromkeys(("batch_size", "batch-size", "bs"), "--data.batch_size"),
    **dict.fromkeys(("epochs", "max-epochs", "num_epochs"), "--trainer.max_epochs"),
    **dict.fromkeys(("steps", "max-steps"), "--trainer.max_steps"),
    **dict.fromkeys(("gpus", "gpu"), "--trainer.devices"),
    **dict.fromkeys(("tau", "temperature"), "--model.bottleneck.estimator.tau or --anneal.tau"),
    **dict.fromkeys(("beta", "kl_weight"), "--model.objective.beta or --anneal.beta"),
    **dict.fromkeys(("num_codes", "codebook_size", "n_embed"), "--model.bottleneck.num_codes"),
    **dict.fromkeys(("num_latents", "latents"), "--model.bottleneck.num_latents"),
    **dict.fromkeys(("estimator",), "--model.bottleneck.estimator"),
    **dict.fromkeys(("seed",), "--seed_everything"),
    **dict.fromkeys(("name", "run_name"), "--experiment"),
    **dict.fromkeys(("resume", "checkpoint", "ckpt"), "--ckpt_path (last for the newest)"),
    **dict.fromkeys(("amp", "fp16", "bf16"), "--trainer.precision"),
    **dict.fromkeys(("data_dir", "data-dir", "root"), "--data.data_dir"),
}
_KEY = re.compile(r"--([\w.]+)")
# Of torch.nn.Module there are hundreds.
_KNOWN, _MOST_KNOWN = re.compile(r",\s+known\s+subclasses:[^()]*"), 50


def asked_for(args: list[str]) -> str | None:
    """Say which help is asked for: ``""`` for the screen, ``all``, or the name of a part.

    Args:
        args: Arguments behind the command.

    Returns:
        ``None`` where none is, or where the help of a class is, which the parser gives.
    """
    for word in args:
        if word in ("-h", "--help"):
            return ""
        if word.startswith("--help."):
            return word.removeprefix("--help.")
    return None


def help_text(command: str, part: str, print_all: Callable[[], object]) -> str:
    """Write the help of a command.

    Args:
        command: Such as ``fit``.
        part: Part that `asked_for` returned.
        print_all: Prints the help of the parser and leaves, as parsers do.

    Raises:
        ValueError: There is no such part.
    """
    if not part:
        return _FIT.format(command=command)
    text = _printed(print_all)
    if part == "all":
        return text
    _, _, body = text.partition("\noptions:")
    blocks = re.split(r"\n(?=  -)", body)
    wanted = [block for block in blocks if block.lstrip().startswith((f"--{part}.", f"--{part} "))]
    if not wanted:
        parts = sorted({key.partition(".")[0] for key in _KEY.findall(body)})
        raise ValueError(f"--help.{part}: there is no such part; there are: {', '.join(parts)}")
    # A paragraph behind a key belongs to the part that comes next.
    return "\n".join(block.split("\n\n")[0].rstrip() for block in wanted)


def is_of_class(args: list[str]) -> bool:
    """Tell whether the help of a class is asked for, such as by ``--data.help ImageFolder``."""
    return any(re.fullmatch(r"--[\w.]+\.help(=.*)?", word) for word in args)


def class_help(print_class: Callable[[], object]) -> str:
    """Return the help of a class, without the names of all that is of some type, if many are.

    Args:
        print_class: Prints the help of the parser and leaves, as parsers do.
    """

    def few(known: re.Match[str]) -> str:
        return known[0] if known[0].count(",") <= _MOST_KNOWN else ""

    return _KNOWN.sub(few, _printed(print_class))


def key_hint(message: str) -> str:
    """Return what was meant by an option that there is not, for the end of the message.

    Args:
        message: Message of the parser.
    """
    if "unrecognized arguments" not in message:
        return ""
    for key in _KEY.findall(message):
        if key in _WISHES:
            return f" (did you mean {_WISHES[key]}? dvae fit --help has the keys)"
    return " (dvae fit --help has the keys, dvae fit --help.all all of them)"


def _printed(print_all: Callable[[], object]) -> str:
    out = io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.suppress(SystemExit),
        warnings.catch_warnings(action="ignore"),  # Lightning's, that it was called from Python
    ):
        print_all()
    return out.getvalue()
