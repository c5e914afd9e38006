"""What can be told only with a GPU, in ten minutes: see `benchmarks.gpu.__main__`."""
