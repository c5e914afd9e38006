"""What the benchmarks write down: each row says where it was measured, and none is lost."""

import json
import os
import subprocess
import sys

import pytest
import torch
from PIL import Image

from benchmarks import bottleneck, compression, first_minutes, lossy, measure, run, sampling
from benchmarks.bottleneck_plot import draw
from dvae.coding import compress
from tests.coding.models import images, latents


def test_a_row_that_says_where_it_was_measured_is_given_nothing_of_this_machine(tmp_path):
    old = {"way": "old", "device": "another", "threads": "1", "torch": "2.0", "date": "2020-01-01"}
    new = {"way": "new", **measure.milliseconds([0.001, 0.002, 0.003])}
    path = measure.write_csv(
        "x", [new, old], tmp_path, measure.machine("cpu", ["torch", "no-such"])
    )
    first, second = (
        dict(zip(path.read_text().splitlines()[0].split(","), line.split(","), strict=True))
        for line in path.read_text().splitlines()[1:]
    )
    assert (first["ms"], first["ms_p20"], first["ms_p80"]) == ("2.0", "1.4", "2.6")
    assert first["instruction_set"] == torch.backends.cpu.get_cpu_capability()
    assert first["no-such"] == "" and f"({first['instruction_set']})" in measure.conditions(first)
    assert second["instruction_set"] == second["ms"] == second["python"] == ""
    assert measure.conditions(second) == "another, 1 thread(s), torch 2.0, 2020-01-01"


def test_a_size_measured_alone_leaves_the_other_rows_of_the_csv(monkeypatch, tmp_path):
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    monkeypatch.setattr(bottleneck, "peak_bytes", lambda *_: 2**20)
    cpu, ways = torch.device("cpu"), ["fused", "VectorQuantize", "products"]
    found = bottleneck.compare(ways, (8, 16, 4, 6), 2, cpu, torch.float32)
    found += bottleneck.compare(ways, (8, 32, 4, 6), 2, cpu, torch.float32)
    for row in found:
        assert row["ms_p20"] <= row["ms"] <= row["ms_p80"]
    gpu = [{**row, "dtype": "bfloat16", "device": "a GPU", "threads": 1} for row in found]
    now = [{**row, **measure.machine("cpu")} for row in found]
    measure.write_csv("bottleneck", [*now, *({**now[0], **row} for row in gpu)])
    again = [{**row, "ms": 7.0} for row in now[:3]]
    rows = [*again, *bottleneck.others(again)]
    assert len(rows) == 12
    assert [row["ms"] for row in rows if row["codes"] in (16, "16")].count(7.0) == 3
    draw(rows, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size


def test_all_benchmarks_are_short_unless_all_of_them_is_asked_for(monkeypatch, capsys):
    started = []

    def start(command, cwd):
        started.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", start)
    for options, largest in (([], True), (["--full"], False)):
        started.clear()
        run.main(options)
        assert [command[2].removeprefix("benchmarks.") for command in started] == list(run.RUNS)
        assert ("--largest" in started[0]) is largest
        assert "6 benchmark(s) in 0.0 minutes" in capsys.readouterr().out.splitlines()[-1]


def test_the_ways_to_draw_codes_that_are_timed_draw_the_same():
    torch.manual_seed(0)
    drawn = [
        prior.sample(5, torch.Generator().manual_seed(1))
        for prior in sampling.priors(3, 7, 16, 2).values()
    ]
    assert len(drawn) == 3 and len(drawn[0].unique()) > 2
    assert torch.equal(drawn[0], drawn[1]) and torch.equal(drawn[0], drawn[2])
    rows = sampling.compare(2, 3, "cpu", 2, 4, 8, 1)
    assert [row["without"] for row in rows] == ["prefix", "whole"]
    for row in rows:
        assert 0 < row["speedup_p20"] <= row["speedup_median"] <= row["speedup_p80"]
        assert row["ms_p20"] <= row["ms"] <= row["ms_p80"] and row["positions"] == 4


def test_a_file_is_compared_with_the_bound_and_with_what_people_have():
    model = latents()
    pixels = (images(model, 2000) * 255).to(torch.uint8)
    bits = 8 * len(compress(model, pixels, lossless=True)) / pixels.numel()
    assert abs(bits / compression.bound(model, pixels) - 1) < 0.02
    rows = {row["way"]: row["bytes"] for row in compression.others(pixels, binary=True)}
    assert list(rows) == ["bz2", "gzip", "lzma", "PNG", "WebP"]
    # A bit a pixel, and noise that hardly anything can be made of; each picture has a head.
    assert all(pixels.numel() / 16 < rows[way] < pixels.numel() / 6 for way in ("bz2", "lzma"))
    assert min(rows["PNG"], rows["WebP"]) > 30 * len(pixels)


def test_photographs_side_by_side_come_back_each_at_its_place(monkeypatch):
    photographs = torch.randint(256, (12, 3, 8, 8), dtype=torch.uint8)
    monkeypatch.setattr(lossy, "_WAYS", {"PNG": {}})
    monkeypatch.setattr(lossy, "_QUALITIES", [1])
    ((row, back),) = lossy.others(photographs, bits=0, psnr=99)
    assert row["psnr"] == 100 and (back * 255).round().equal(photographs.float())
    # Noise does not compress: a byte a value, and what the file says of itself.
    assert 8 * 3 * 64 < row["bits_at_our_psnr"] == row["bits_per_image"] < 1.1 * 8 * 3 * 64


def test_the_first_minutes_are_those_of_the_readmes_first_screen(tmp_path):
    text = first_minutes.README.read_text()
    found = first_minutes.commands(text)
    assert list(found) == list(first_minutes.STEPS)
    assert found["explore a shipped model"] == "dvae explore mnist"
    # What is trained on is the folder that is written, and what is read is what that run logs.
    training = found["train on a folder of pictures"].split()
    assert "\\" not in training and "TensorBoardLogger" in training
    first_minutes.write_pictures(tmp_path / training[training.index("--data.data_dir") + 1], 3)
    files = sorted((tmp_path / "PHOTOS").iterdir())
    assert {Image.open(file).size for file in files} == {(64, 64)} and len(files) == 3
    below = "\n" * first_minutes.SCREEN + text
    for wrong in (below, text.replace("dvae explore mnist ", "dvae show mnist ")):
        with pytest.raises(ValueError, match="first 60 lines must hold a block of"):
            first_minutes.commands(wrong)


def test_a_page_is_there_once_it_answers_and_is_stopped(tmp_path):
    (tmp_path / "page.json").write_text("[1]")
    command = f"{sys.executable} -u -m http.server 0 --bind 127.0.0.1"
    asked = []

    def answers(address):
        asked.append(address)
        return json.loads(first_minutes._get(f"{address}/page.json")) == [1]

    seconds = first_minutes.seconds_to_answer(command, answers, tmp_path, os.environ)
    assert 0 < seconds < first_minutes.PATIENCE
    with pytest.raises(OSError):
        answers(asked[-1])
    with pytest.raises(RuntimeError, match="exit 3 gives no page:\nwhat went wrong"):
        first_minutes.seconds_to_answer("echo what went wrong; exit 3", bool, tmp_path, os.environ)
