"""What the README says of priors."""

from benchmarks.measure import conditions, read_csv

__all__ = ["class_samples"]


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
