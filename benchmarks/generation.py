"""What the pages say of priors."""

from statistics import fmean, stdev

from benchmarks.measure import conditions, read_csv

__all__ = ["class_samples", "likelihood", "prior_steps", "priors"]


_RECIPE = ("config", "data", "epochs")


def likelihood() -> str:
    """Describe the runs of the likelihood's recipe."""
    measured = read_csv("likelihood")
    lines = [
        "| run | training images | epochs | seeds | test bound | test ELBO | minutes | on |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for group in sorted({tuple(row[key] for key in _RECIPE) for row in measured}):
        name, data, epochs = group
        rows = [row for row in measured if tuple(row[key] for key in _RECIPE) == group]
        bound, elbo = (", ".join(row[key] for row in rows) for key in ("test_iwae", "test_elbo"))
        seeds = ", ".join(row["seed"] for row in rows)
        minutes = fmean(float(row["training_seconds"]) for row in rows) / 60
        cells = (f"`{name}`", f"{data} binarisation", epochs, seeds, bound, elbo)
        lines.append(f"| {' | '.join(cells)} | {minutes:.0f} | {rows[0]['device']} |")
    row = measured[0]
    end = (
        "Nats, a figure for each seed, and minutes of training: all 10,000 test images, binarised "
        f"once, and a bound of {row['iwae_samples']} samples. `python -m benchmarks.likelihood` "
        f"({conditions(row)}, beside other work)."
    )
    return "\n".join([*lines, "", end])


def class_samples() -> str:
    """Describe how many samples of a class are of it."""
    found = [
        f"Of {row['samples']} samples {float(row['right_class']):.1%} are of the class that was "
        f"asked for ({row['data']}, seed {row['seed']}, temperature {row['temperature']}; "
        f"{float(row['right_class_uniform']):.1%} with independent uniform codes) by a classifier "
        f"that is right about {float(row['classifier_test_accuracy']):.2%} of the test images"
        for row in read_csv("class_samples")
    ]
    where = conditions(read_csv("class_samples")[0])
    return f"{'. '.join(found)}. `python -m benchmarks.class_samples RUN` ({where})."


def priors() -> str:
    """Make the table of a prior trained with the model and afterwards."""
    measured = read_csv("priors")
    lines = ["| prior | trained | test ELBO | test bound | seeds |", "|---|---|---|---|---|"]
    for prior, trained in dict.fromkeys((row["prior"], row["trained"]) for row in measured):
        rows = [row for row in measured if (row["prior"], row["trained"]) == (prior, trained)]
        cells = [" ± ".join(_spread([float(row[key]) for row in rows])) for key in _BOUNDS]
        lines.append(f"| `{prior}` | {trained} | {' | '.join(cells)} | {len(rows)} |")
    row, kinds = measured[0], dict.fromkeys(row["prior"] for row in measured if row["trained"])
    end = (
        f"Nats, mean and standard deviation of the seeds, {row['epochs']} epochs; afterwards "
        "means that the prior has the second half of them, all else frozen. "
        f"`OMP_NUM_THREADS=1 python -m benchmarks.priors --priors {' '.join(kinds)}` "
        f"({conditions(row)})."
    )
    return "\n".join([*lines, "", end])


def prior_steps() -> str:
    """Say how long a step takes with each prior."""
    measured = read_csv("prior_steps")
    found = [
        f"{float(row['ms']):.0f} ms with `{row['prior']}`"
        + (f" ({int(row['weights']):,} weights)" if int(row["weights"]) else "")
        for row in measured
    ]
    where = f"`python -m benchmarks.prior_steps` ({conditions(measured[0])})."
    return f"A step of the whole model, 200 images: {', '.join(found)}. {where}"


_BOUNDS = ("test_elbo", "test_iwae")


def _spread(values: list[float]) -> list[str]:
    found = [fmean(values)] if len(values) == 1 else [fmean(values), stdev(values)]
    return [f"{value:.2f}" for value in found]
