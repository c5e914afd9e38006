"""What the pages say of long runs, kills and random combinations."""

from benchmarks.measure import conditions, read_csv

__all__ = ["joints", "kills", "soak"]


def joints() -> str:
    """Describe the random combinations of parts."""
    measured = read_csv("joints")
    if not measured:
        return ""
    (row,) = measured
    return (
        f"`python -m benchmarks.fuzz --joints {row['joints']} --seed {row['seed']}`, random "
        "combinations of precision, bottleneck, estimator, kernel, data, callbacks, accumulation "
        f"and a way to end: {row['resumed']} were ended and went on to the weights, steps, "
        f"validations and schedules of a run that was never stopped, {row['ended']} only ended, "
        f"{row['refused']} were refused in the one line known to be right, {row['failure']} "
        f"failures ({conditions(row)})."
    )


def soak() -> str:
    """Describe the long run."""
    (row,) = read_csv("soak")
    mib = [round(float(row[f"{part}_quarter_mib"])) for part in ("first", "last")]
    files = [round(float(row[f"{part}_quarter_files"])) for part in ("first", "last")]
    return (
        f"`python -m benchmarks.soak --minutes {float(row['minutes']):.0f}`, the main job beside "
        f"other work: memory of the first and last quarter {mib[0]} and {mib[1]} MiB "
        f"({float(row['growth_percent']):+.1f}%), open files {files[0]} and {files[1]} "
        f"({conditions(row)})."
    )


def kills() -> str:
    """Describe the runs that were killed and resumed."""
    measured = read_csv("kills")
    models = ", ".join(
        f"{row['identical']} of {row['kills']} of the {row['model']} model" for row in measured
    )
    row = measured[0]
    return (
        f"`python -m benchmarks.kills`, {row['signals']} at random moments, then resumed: {models} "
        f"ended with the weights, optimizer, schedules and metrics of an uninterrupted run "
        f"({conditions(row)})."
    )
