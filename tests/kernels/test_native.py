"""Laws of the compiled loops: they do what torch's operations do, or are not used."""

import logging
import math
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy import stats

from dvae.kernels import Book, Relaxation, gumbel_noise, native, sweep
from dvae.kernels.loops import RowTerms, TorchLoops
from dvae.kernels.noise import row_keys
from tests.laws import FAILURE_RATE

ROWS, CODES = 37, 301
compiled = pytest.mark.skipif(native._native() is None, reason="needs a C compiler")


def matrices(count=1):
    generator = torch.Generator().manual_seed(0)
    found = 5 * torch.randn(count, ROWS, CODES, generator=generator)
    return found[0] if count == 1 else found


def both(name, *arguments):
    """Call both versions with copies of the arguments, and return all that they leave behind."""
    results = []
    for loops in (TorchLoops(), native._native()):
        own = [x.clone() if isinstance(x, torch.Tensor) else x for x in arguments]
        found = getattr(loops, name)(*own)
        results.append((found if isinstance(found, tuple) else (found,), own))
    return results


def assert_close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=2e-6, atol=2e-6, equal_nan=True)


def test_the_source_is_in_the_wheel():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert native._SOURCE.is_file()
    assert native._SOURCE.name in project["tool"]["setuptools"]["package-data"]["dvae.kernels"]


@compiled
def test_the_noise_is_that_of_torch_to_the_last_places():
    rows, codes = 16, 2**17
    keys, columns = row_keys(3, torch.arange(rows)), torch.arange(codes, dtype=torch.int32)
    logits, out = torch.zeros(2, rows, codes)
    noise = native._native().add_noise(logits, keys, columns, out, None)
    expected = gumbel_noise(3, rows, codes)
    assert noise.max() > 10 and noise.min() < -2.6
    # Each rounds twice or three times: the exponential, its logarithm, that to another base.
    assert ((noise - expected).abs() <= 2.0**-21 * expected.abs().clamp_min(1)).all()
    assert stats.kstest(noise.flatten().double().numpy(), "gumbel_r").pvalue > FAILURE_RATE


@compiled
@pytest.mark.parametrize("broken", [None, math.nan, math.inf, -1e30])
def test_maxima_have_their_first_place(broken):
    x = matrices().round()
    highest, place = torch.linspace(-5, 25, ROWS), torch.arange(ROWS)
    if broken is not None:
        x[:, 7] = broken
    ((theirs,), theirs_left), ((ours,), ours_left) = both("raise_maxima", x, highest, place, 1000)
    usable = ~theirs.isnan()
    assert torch.equal(ours[usable], theirs[usable])
    assert torch.equal(ours_left[2][usable], theirs_left[2][usable])
    known = (ours_left[2] < ROWS) | ((ours_left[2] >= 1000) & (ours_left[2] < 1000 + CODES))
    assert known.all()


@compiled
@pytest.mark.parametrize("broken", [None, math.nan, math.inf, -1e30])
@pytest.mark.parametrize("prior", [False, True])
def test_weights_and_sums(broken, prior):
    x, spare = matrices(2)
    if broken is not None:
        x[:, 7] = broken
    top, rate = x.amax(-1), torch.tensor(1.7)
    (theirs, theirs_left), (ours, ours_left) = both("weigh", x, top, rate)
    assert_close(ours, theirs)
    assert_close(ours_left[0], theirs_left[0])
    log_prior = torch.randn(CODES).log_softmax(0) if prior else None
    (theirs, _), (ours, _) = both("diverge", x, top, log_prior, spare)
    assert_close(ours, theirs)


@compiled
@pytest.mark.parametrize(
    ("code", "kl", "heun"),
    [(1, 1, 1), (1, 1, 0), (1, 0, 1), (1, 0, 0), (0, 1, 0)],
)
def test_the_gradient(code, kl, heun):
    logits, pull, weights, spare = matrices(4)
    weights = weights.sigmoid()
    numbers = torch.randn(6, ROWS)
    # Winners within the block and on both sides of it.
    terms = RowTerms(torch.arange(ROWS) * 10 + 950, numbers[0], logits.amax(-1), numbers[1])
    if kl:
        terms = replace(terms, of_kl=numbers[2])
    if heun:
        terms = replace(terms, half=numbers[3], shift=numbers[4], of_winner_posterior=numbers[5])
    prior = torch.randn(CODES).log_softmax(0)
    arguments = (logits, pull if code else None, weights, terms, 1000, prior, spare)
    (theirs, _), (ours, _) = both("gradient", *arguments)
    assert_close(ours[0], theirs[0])
    if kl or heun:
        assert_close(ours[1], theirs[1])


def drawn():
    h, weight, codebook = torch.ones(5, 3), torch.eye(9)[:, :3], torch.eye(9)
    relaxation = Relaxation(torch.tensor(0.7), hard=False)
    return sweep(h, Book(weight, None, codebook), relaxation, 4, "blocked").code


@pytest.mark.parametrize("script", [None, "exit 1", 'for last; do :; done; echo junk > "$last"'])
def test_without_a_compiler_that_works_the_loops_are_those_of_torch(
    script, monkeypatch, tmp_path, caplog
):
    expected = drawn()
    path = tmp_path / "cc"
    if script is not None:
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    native._native.cache_clear()
    with caplog.at_level(logging.INFO, logger="dvae"):
        try:
            assert isinstance(native.pick_loops(torch.device("cpu"), torch.float32), TorchLoops)
            torch.testing.assert_close(drawn(), expected)
        finally:
            native._native.cache_clear()
    assert "no C compiler" in caplog.text


@compiled
def test_only_float32_on_a_cpu_is_compiled():
    assert isinstance(native.pick_loops(torch.device("cpu"), torch.float32), native.NativeLoops)
    assert isinstance(native.pick_loops(torch.device("cpu"), torch.float64), TorchLoops)
    assert isinstance(native.pick_loops(torch.device("cuda"), torch.float32), TorchLoops)


@compiled
def test_rows_do_not_depend_on_the_threads():
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            x = matrices()
            total = native._native().weigh(x, x.amax(-1), torch.tensor(1.7))
            found.append((x, total))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
