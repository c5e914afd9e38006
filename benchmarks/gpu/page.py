"""What the pages say of a GPU."""

from benchmarks.measure import conditions, read_csv

__all__ = ["gpu"]


def gpu() -> str:
    """Put the fused code book on a GPU beside its peers, and the main job beside its own."""
    layer = [row for row in read_csv("gpu_layer") if row["rows"] == "65536"]
    ways = list(dict.fromkeys(row["way"] for row in layer))
    lines = [f"| C = D | arithmetic | {' | '.join(ways)} |", "|---" * (2 + len(ways)) + "|"]
    for size, arithmetic in dict.fromkeys((row["dim"], row["arithmetic"]) for row in layer):
        of_kind = {
            row["way"]: row
            for row in layer
            if (row["dim"], row["arithmetic"]) == (size, arithmetic)
        }
        cells = [
            f"{float(row['ms']):.1f} ({row['over_fused_median']}), {float(row['peak_mib']):.0f} MiB"
            for row in of_kind.values()
        ]
        lines.append(f"| {size} | {arithmetic} | {' | '.join(cells)} |")
    jobs = {row["way"]: row for row in read_csv("gpu_jobs")}
    steps = read_csv("gpu_steps")
    took = sum(row["ended"] == "passed" for row in steps)
    said = ", ".join(
        f"{way} {row['images_per_second']} (ours over it {row['ours_over_this']})"
        for way, row in jobs.items()
    )
    lines += [
        "",
        "65,536 rows and 8,192 codes, forward and backward: milliseconds, (ratio to fused,) peak "
        f"memory: `python -m benchmarks.gpu --only layer` ({conditions(layer[0])}). The main job, "
        f"batch 200, images a second: {said}: with so small a model the host's launches are "
        f"what takes the time. {took} of {len(steps)} combinations of estimator, bottleneck, "
        "likelihood and objective take a training step without waiting for the GPU. How each part "
        "of `python -m benchmarks.gpu` ended is in `benchmarks/results/gpu.csv`.",
    ]
    return "\n".join(lines)
