"""The figures of the README and of the pages in ``docs``, written into them from the CSV files.

python -m benchmarks.readme

Each marked part is made by the function of that name, and stands on one page; a test insists that
the pages are what this script would write.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from benchmarks.compression import compression
from benchmarks.finetune import WAYS, best
from benchmarks.first_minutes import first_minutes
from benchmarks.generation import class_samples, likelihood, prior_steps, priors
from benchmarks.gpu.page import gpu
from benchmarks.lossy import lossy
from benchmarks.measure import conditions, mean_of, read_csv
from benchmarks.overhead import overhead
from benchmarks.plain import ROW, TABLE
from benchmarks.tables.page import averages, of_cell
from benchmarks.tables.spec import load, tables
from benchmarks.tried import joints, kills, soak
from benchmarks.tuner import tuner
from dvae.estimators import ESTIMATORS, Estimator

README = Path(__file__).parent.parent / "README.md"

# When SSIM and the training of densities changed.
CHANGED = "2026-11-27"
# What is shown of a table beside its own metric.
TESTED = ("test_negative_elbo", "test_negative_iwae")


def default_run() -> str:
    """Describe the default run."""
    (row,) = read_csv("mnist_categorical")
    return (
        f"`{row['command']}`: **test ELBO {row['test/elbo']} nats** (grayscale protocol, hard "
        f"codes), 100-sample bound {row['test/iwae']}, KL {row['test/kl']}, after "
        f"{row['training_seconds']} seconds of training ({conditions(row)})."
    )


def codebook_run() -> str:
    """Describe the run of the code-book model on MNIST."""
    (row,) = read_csv("mnist_codebook")
    return (
        f"`{row['command']}`: **test PSNR {row['test/psnr']} dB**, SSIM {row['test/ssim']}, "
        f"perplexity {row['test/perplexity']} of 128 codes, usage {row['test/usage']}, ELBO "
        f"{row['test/elbo']} nats (a density, Gaussian pixels), KL {row['test/kl']}, after "
        f"{row['training_seconds']} seconds of training ({conditions(row)}).{_earlier([row])}"
    )


def estimators() -> str:
    """Make the table of estimators."""
    measured = read_csv("estimators")
    cost: dict[str, str] = {}
    for row in measured:  # the first of a name: GumbelSoftmax is there again for other sizes
        cost.setdefault(row["estimator"], row["cost_median"])
    lines = [
        "| class | year | paper (arXiv) | gradient | cost per step |",
        "|---|---|---|---|---|",
    ]
    for cls in sorted(ESTIMATORS.values(), key=_kind_and_year):
        name, about = cls.__name__, cls.about
        file = f"configs/estimators/{cls.__module__.rpartition('.')[2]}.yaml"
        if not (README.parent / file).is_file():
            file = f"{cls.__module__.replace('.', '/')}.py"
        cells = (f"[`{name}`]({file})", about.year or "-", about.source, about.bias)
        lines.append(f"| {' | '.join(map(str, cells))} | {cost.get(name, 'not measured')} |")
    command = f"`python -m benchmarks.estimators` ({conditions(measured[0])})"
    return "\n".join([*lines, "", f"Cost is relative to `GumbelSoftmax`: {command}."])


def _kind_and_year(cls: type[Estimator]) -> tuple[bool, bool, float]:
    kind = cls.about.bias
    return kind.startswith("exact"), kind.startswith("unbiased"), cls.about.year or math.inf


def finetune() -> str:
    """Make the table of fine-tuning against training from nothing."""
    measured = read_csv("finetune")
    found = best(measured)
    steps = list(dict.fromkeys(count for _, count in found))
    lines = ["| steps | from nothing | fine-tuned |", "|---|---|---|"]
    for count in steps:
        cells = (f"{fmean(found[way, count][1]):.2f}" for way in WAYS)
        lines.append(f"| {count} | {' | '.join(cells)} |")
    rates = ", ".join(f"{rate:g}" for rate in sorted({rate for rate, _ in found.values()}))
    seeds = len({row["seed"] for row in measured})
    protocol = f"grayscale protocol, nats, mean of {seeds} seeds, learning rate {rates}"
    command = f"`python -m benchmarks.finetune` ({conditions(measured[0])})"
    lines += ["", f"`val/elbo` on Fashion-MNIST ({protocol}): {command}."]
    return "\n".join(lines)


def speed() -> str:
    """Describe the measured speed."""
    training = [row for row in read_csv("training") if row["way"] != "ours"]
    places = list(dict.fromkeys(_processor(row) for row in training))
    lines = [f"| ours / this (p20 to p80) | {' | '.join(places)} |", "|---|" + "---|" * len(places)]
    for way in dict.fromkeys(row["way"] for row in training):
        found = {_processor(row): row for row in training if row["way"] == way}
        cells = [_ratio(found[place]) if place in found else "" for place in places]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    said = "; ".join(dict.fromkeys(conditions(row) for row in training))
    lines += ["", f"`python -m benchmarks.training` ({said}).", ""]
    lines += ["| the layer against `F.gumbel_softmax(hard=True)` | torch / ours (p20 to p80) |"]
    lines += ["|---|---|"]
    layer = read_csv("layer")
    lines += [
        f"| {row['shape']} | {row['speedup_median']} ({row['speedup_p20']} to "
        f"{row['speedup_p80']}), peak memory {row['torch_peak_mib']} / {row['dvae_peak_mib']} MiB |"
        for row in layer
    ]
    lines += ["", f"`python -m benchmarks.layer` ({conditions(layer[0])})."]
    return "\n".join(lines)


def _processor(row: dict[str, str]) -> str:
    return f"{row['device']} ({row['instruction_set']})"


def _ratio(row: dict[str, str]) -> str:
    return f"{row['ours_over_this']} ({row['ratio_p20']} to {row['ratio_p80']})"


def bottleneck() -> str:
    """Make a table of the fused code-book layer beside other ways for each device and dtype."""
    measured = read_csv("bottleneck")
    places = list(dict.fromkeys((row["device"], row["dtype"]) for row in measured))
    found = []
    for place in places:
        rows = [row for row in measured if (row["device"], row["dtype"]) == place]
        # What was measured last is first in the file.
        rows.sort(key=lambda row: [int(row[key]) for key in ("rows", "codes", "features", "dim")])
        ways = list(dict.fromkeys(row["way"] for row in rows))
        wide = len({row["dim"] for row in rows}) > 1
        sizes = ("rows", "codes", "features", *(["dim"] if wide else []))
        heads = ("rows", "codes K", "features C", *(["vectors D"] if wide else []), *ways)
        lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
        for size in dict.fromkeys(tuple(row[key] for key in sizes) for row in rows):
            cells = {r["way"]: _step(r) for r in rows if tuple(r[key] for key in sizes) == size}
            lines.append("| " + " | ".join([*size, *(cells.get(way, "") for way in ways)]) + " |")
        said = "; ".join(dict.fromkeys(conditions(row) for row in rows))
        dim = "" if wide else f"; vectors of {rows[0]['dim']}"
        kind = "" if len(places) == 1 else f", {place[1]}"
        lines += ["", f"Milliseconds, (ratio to fused, median of pairs,) peak memory{dim}{kind}. "]
        lines[-1] += f"`python -m benchmarks.bottleneck {_options(rows[0])}` ({said})."
        found.append("\n".join(lines))
    return "\n\n".join(found)


def _options(row: dict[str, str]) -> str:
    # Only a CPU has an instruction set, and only GPU rows are younger than that column.
    if row.get("instruction_set") == "":
        return f"--device cuda --dtype {row['dtype']}"
    return f"--threads {row['threads']}"


def _step(row: dict[str, str]) -> str:
    ratio = "" if row["way"] == "fused" else f" ({row['over_fused_median']})"
    return f"{float(row['ms']):.0f}{ratio}, {float(row['peak_mib']):.0f} MiB"


def codebooks() -> str:
    """Make the table of ways to a code on a grid."""
    measured = read_csv("codebooks")
    lines = [
        "| way | PSNR, dB | SSIM | perplexity | usage | ELBO, nats | rate, nats | minutes | runs |",
        "|" + "---|" * 9,
    ]
    for way in dict.fromkeys(row["way"] for row in measured):
        runs = [row for row in measured if row["way"] == way]
        cells = [
            _mean(runs, "psnr", 2),
            _mean(runs, "ssim", 3),
            _mean(runs, "perplexity", 0),
            _mean(runs, "usage", 2),
            _mean(runs, "elbo", 0),
            _mean(runs, "kl", 0),
            # The least of the seeds: the others had more of other work beside them.
            f"{min(float(run['training_seconds']) for run in runs) / 60:.1f}",
            str(len(runs)),
        ]
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    row = measured[0]
    seeds = len({row["seed"] for row in measured})
    places = "; ".join(dict.fromkeys(conditions(row) for row in measured))
    return "\n".join(
        [
            *lines,
            "",
            f"{row['steps']} steps of {row['batch_size']} images, mean ± standard deviation over "
            "seeds, minutes of the quickest, two runs side by side on a CPU: `python -m "
            f"benchmarks.codebooks --data FOLDER --steps {row['steps']} --seeds {seeds} --jobs 2` "
            f"({places}).{_earlier(measured)}",
        ]
    )


def _earlier(rows: Sequence[Mapping[str, str]]) -> str:
    """Say of figures that were measured before what they measure was changed, that they were."""
    if min(row["date"] for row in rows) >= CHANGED:
        return ""
    return (
        f" Of before {CHANGED}: SSIM had windows beyond the image then, and a density was trained "
        "on pixels without the noise that it is evaluated on."
    )


def _mean(runs: list[dict[str, str]], key: str, digits: int) -> str:
    return mean_of([float(row[key]) for row in runs], digits)


def published() -> str:
    """Make the table of what was reproduced of the published tables, and list what is missing."""
    lines = ["| table | sizes | estimator | published | ours | test -ELBO | test bound | seeds |"]
    lines += ["|" + "---|" * 8]
    missing = []
    for name in tables():
        table = load(name)
        known = read_csv(name)
        absent: dict[str, list[str]] = {}
        for cell in table.cells.values():
            runs = of_cell(table, cell, known)
            if cell.estimator is not None and not runs:
                absent.setdefault(cell.row, []).append(cell.column)
            if runs:
                means = [_mean(list(runs), key, 2) for key in (table.metric, *TESTED)]
                cells = [name, cell.row, cell.column, str(cell.published), *means, str(len(runs))]
                lines.append(f"| {' | '.join(cells)} |")
        for column, (theirs, ours) in averages(table, known).items():
            lines.append(f"| {name} | average | {column} | {theirs:.2f} | {ours:.2f} | | | |")
        missing += [f"{name} {row}: {', '.join(columns)}" for row, columns in absent.items()]
    bounds = ", ".join(n for n in tables() if load(n).metric == "test_negative_iwae")
    lines += [
        "",
        "Nats per example, lower is better; what is published and ours beside it is the train "
        f"-ELBO, but for {bounds} the test bound. Settings, commands and machines are in "
        "`benchmarks/results/<table>.csv` and `.md`.",
        "",
        f"Not run yet: {'; '.join(missing) or 'nothing'}.",
    ]
    return "\n".join(lines)


def plain() -> str:
    """Put a second implementation beside the cells that differ from the published figure."""
    measured = read_csv("plain")
    table = load(TABLE)
    known = read_csv(TABLE)
    lines = [f"| {TABLE} | published | ours | plain PyTorch |", "|---|---|---|---|"]
    commands = []
    whole = [row for row in measured if row["epochs"] == str(table.epochs)]
    for column in dict.fromkeys(row["column"] for row in whole):
        cell = table.cells[f"{ROW} {column}"]
        theirs = [row for row in whole if row["column"] == column]
        ours, plainly = (
            ", ".join(f"{float(row[table.metric]):.2f}" for row in rows)
            for rows in (of_cell(table, cell, known), theirs)
        )
        lines.append(f"| {cell.name} | {cell.published} | {ours} | {plainly} |")
        commands.append(f"`{column} --seeds {' '.join(row['seed'] for row in theirs)}`")
    starts = [row for row in measured if row["epochs"] == "2"]
    # The mean picture costs 206.0 nats, and one code for all images a KL of 4 ln 8 = 8.3.
    stuck = sum(float(row[table.metric]) > 206 for row in starts)
    said = f"`python -m benchmarks.plain` with {' and '.join(commands)}"
    lines += [
        "",
        f"Train -ELBO of each seed, nats: {said} ({conditions(whole[0])}). After two epochs "
        f"of {starts[0]['column']} in plain PyTorch {stuck} of {len(starts)} seeds give all images "
        "one code, at 214 nats (`--epochs 2`).",
    ]
    return "\n".join(lines)


def precision() -> str:
    """Describe the main job in each precision."""
    measured = read_csv("precision")
    lines = [
        "| precision | epochs | test ELBO, nats | less float32's | seconds |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['precision']} | {row['epochs']} | {row['test/elbo']} | {row['over_float32']} "
        f"| {row['training_seconds']} |"
        for row in measured
    ]
    others = " ".join(row["precision"] for row in measured[1:])
    said = {
        row["epochs"]: f"`--epochs {row['epochs']} --samples {row['iwae_samples']}`: "
        f"{conditions(row)}"
        for row in measured
    }
    lines += [
        "",
        f"`python -m benchmarks.precision {others}` ({'; '.join(said.values())}). 16-mixed is its "
        "arithmetic on a CPU.",
    ]
    return "\n".join(lines)


def pages() -> dict[Path, str]:
    """Read the README and all pages of the documentation."""
    root = README.parent
    return {path: path.read_text() for path in (README, *sorted(root.glob("docs/**/*.md")))}


def rendered(texts: Mapping[Path, str]) -> dict[Path, str]:
    """Fill in every marked part.

    Args:
        texts: Pages as they stand.

    Raises:
        ValueError: A part stands on no page, or on more than one.
    """
    found = dict(texts)
    for part in PARTS:
        mark, count = part.__name__, 0
        pattern = rf"(<!-- {mark} -->\n).*?(\n<!-- /{mark} -->)"
        for path, text in found.items():
            found[path], here = re.subn(
                pattern, lambda m, p=part: m[1] + p() + m[2], text, flags=re.DOTALL
            )
            count += here
        if count != 1:
            raise ValueError(f"the pages must hold the part {mark} once; found {count}")
    return found


PARTS = (
    *(default_run, codebook_run, finetune, codebooks, bottleneck, estimators, speed),
    *(published, plain, precision, gpu, kills, soak, joints, compression, likelihood),
    *(class_samples, priors, prior_steps, lossy, first_minutes, tuner, overhead),
)


if __name__ == "__main__":
    for path, text in rendered(pages()).items():
        path.write_text(text)
