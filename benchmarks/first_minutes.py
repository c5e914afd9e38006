"""A stranger's first minutes: install, look at a model, train one, see its curves.

    python -m benchmarks.first_minutes

The commands are those of the README's first screen, run as they stand there in a fresh virtual
environment, without pip's cache, and in an empty folder that has a folder of pictures, cut from the
two photographs of scikit-learn. A page is there once it answers; TensorBoard's once it has the
curves and the pictures of the run. What a command says, its errors too, is shown.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks.measure import conditions, read_csv, write_csv

__all__ = ["commands", "first_minutes", "main", "seconds_to_answer", "write_pictures"]

README = Path(__file__).parent.parent / "README.md"
# Lines of a first screen, or two.
SCREEN = 60
# How the command of each step begins.
STEPS = {
    "install": "pip install",
    "explore a shipped model": "dvae explore",
    "train on a folder of pictures": "dvae fit",
    "read its curves in TensorBoard": "tensorboard",
}
PICTURES, SIZE = 1000, 64
# Seconds after which a page is given up.
PATIENCE = 300


def commands(text: str) -> dict[str, str]:
    """Return the command of each step, from the block of the first screen that has them all.

    Args:
        text: The README.

    Raises:
        ValueError: There is no such block.
    """
    screen = "\n".join(text.splitlines()[:SCREEN])
    for block in re.findall(r"^```bash\n(.*?)^```$", screen, re.DOTALL | re.MULTILINE):
        joined = re.sub(r"\\\n\s*", "", block)
        lines = [line.partition("  #")[0].strip() for line in joined.splitlines()]
        if len(lines) == len(STEPS) and all(map(str.startswith, lines, STEPS.values())):
            return dict(zip(STEPS, lines, strict=True))
    raise ValueError(
        f"the README's first {SCREEN} lines must hold a block of the commands "
        f"{', '.join(STEPS.values())}"
    )


def write_pictures(folder: Path, count: int = PICTURES) -> None:
    """Write pieces of photographs as PNG files.

    Args:
        folder: New folder.
        count: Number of files.
    """
    folder.mkdir()
    noise = np.random.default_rng(0)
    photographs = load_sample_images().images
    for n in range(count):
        photograph = photographs[n % len(photographs)]
        top, left = (noise.integers(size - SIZE) for size in photograph.shape[:2])
        piece = photograph[top : top + SIZE, left : left + SIZE]
        Image.fromarray(piece).save(folder / f"{n:04d}.png")


def seconds_to_answer(
    command: str,
    answers: Callable[[str], bool],
    folder: Path,
    env: Mapping[str, str],
) -> float:
    """Start a page, ask it until it answers, and stop it.

    Args:
        command: What starts it, and says its address on this machine.
        answers: Whether the page at an address has what is looked for; it may raise `URLError`.
        folder: Where it is started.
        env: Environment of the process.

    Returns:
        Seconds from the start to the answer.

    Raises:
        RuntimeError: It ended, or has not answered in five minutes; with all that it said.
    """
    log = folder / "page.log"
    with log.open("w") as out:
        start = time.perf_counter()
        page = subprocess.Popen(
            command,
            shell=True,
            cwd=folder,
            env=env,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that all that it starts is stopped with it
        )
        try:
            while not _answers(answers, log.read_text()):
                if page.poll() is not None or time.perf_counter() - start > PATIENCE:
                    raise RuntimeError(f"{command} gives no page:\n{log.read_text()}")
                time.sleep(0.1)
            return time.perf_counter() - start
        finally:
            if page.poll() is None:
                os.killpg(page.pid, signal.SIGTERM)
            page.wait()


def _answers(answers: Callable[[str], bool], said: str) -> bool:
    address = re.search(r"http://(?:localhost|127\.0\.0\.1):\d+", said)
    try:
        return address is not None and answers(address[0])
    except (URLError, ConnectionError):
        return False


def _get(address: str) -> str:
    # This machine is asked, whatever proxy the environment names.
    with build_opener(ProxyHandler({})).open(address, timeout=60) as answer:
        return str(answer.read().decode())


def _is_page(address: str) -> bool:
    return "<html" in _get(address)


def _has_curves_and_pictures(address: str) -> bool:
    found = {}
    for plugin in ("scalars", "images"):
        runs = json.loads(_get(f"{address}/data/plugin/{plugin}/tags"))
        found[plugin] = {tag for tags in runs.values() for tag in tags}
    return "val/elbo" in found["scalars"] and "media/reconstructions" in found["images"]


def measure(work: Path) -> list[dict[str, object]]:
    """Go through all steps.

    Args:
        work: Empty folder.

    Returns:
        The rows of the table.
    """
    todo = commands(README.read_text())
    venv.create(work / "venv", with_pip=True)
    here = work / "here"
    here.mkdir()
    write_pictures(here / "PHOTOS")
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    env |= {"PATH": f"{work / 'venv' / 'bin'}:{env['PATH']}", "PIP_NO_CACHE_DIR": "1"}
    rows: list[dict[str, object]] = []
    for step, command in todo.items():
        print(f"\n== {step}: {command}", flush=True)
        if step.startswith(("explore", "read")):
            found = _is_page if step.startswith("explore") else _has_curves_and_pictures
            seconds = seconds_to_answer(command, found, here, env)
        else:
            start = time.perf_counter()
            folder = README.parent if step == "install" else here
            subprocess.run(command, shell=True, cwd=folder, env=env, check=True)
            seconds = time.perf_counter() - start
            # pip may need its owner's settings; after it nothing of before is there.
            env["HOME"] = str(work)
        print(f"== {seconds:.1f} seconds", flush=True)
        rows.append({"step": step, "seconds": round(seconds, 1), "command": command})
    return rows


def _seconds() -> dict[str, float]:
    return {row["step"]: float(row["seconds"]) for row in read_csv("first_minutes")}


def first_minutes() -> str:
    """Make the table of the first minutes, for the pages."""
    measured = read_csv("first_minutes")
    lines = ["| step | seconds | command |", "|---|---|---|"]
    lines += [f"| {row['step']} | {row['seconds']} | `{row['command']}` |" for row in measured]
    return "\n".join(
        [
            *lines,
            f"| together | {sum(_seconds().values()):.0f} | |",
            "",
            f"`python -m benchmarks.first_minutes`, `PHOTOS` being {PICTURES} pieces of {SIZE} x "
            f"{SIZE} pixels, cut from photographs ({conditions(measured[0])}).",
        ]
    )


def main() -> None:
    """Measure, and write the table."""
    with tempfile.TemporaryDirectory() as work:  # of several GiB, which it takes long to remove
        try:
            rows = measure(Path(work))
        except (RuntimeError, subprocess.CalledProcessError) as error:
            sys.exit(str(error))
        print(write_csv("first_minutes", rows), flush=True)


if __name__ == "__main__":
    main()
