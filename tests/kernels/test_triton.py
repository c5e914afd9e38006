"""The Triton kernels without a GPU: interpreted, and compiled for one."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="triton is not installed")
ROOT = Path(__file__).parent.parent.parent
FLOAT32 = {"tau", "mixture", "kl", "sums", "mean", "grad_kl"}
FLOAT32 |= {"of_h", "of_w", "of_b", "of_e", "of_p"}
INT64 = {"index", "mode", "seed"}
SETTINGS = {
    "HAS_BIAS": True,
    "HAS_PRIOR": True,
    "NOISY": True,
    "HARD": False,
    "ALL": True,
    "M": 16,
    "K": 32,
}
SETTINGS |= {"PRECISION": "ieee", "C_PAD": 32, "D_PAD": 64}


@pytest.mark.slow
def test_interpreted_they_are_as_good_as_plain_torch():
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.kernels.interpret"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == "ok", done.stderr[-2000:]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("forward", "bf16"),
        ("rows_backward", "bf16"),
        ("codes_backward", "bf16"),
        ("forward", "fp32"),
    ],
)
def test_they_compile_for_a_gpu_with_its_tensor_cores(name, number, monkeypatch, tmp_path):
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from dvae.kernels import triton_kernels

    monkeypatch.setattr(triton.knobs.cache, "dir", str(tmp_path))
    kernel = getattr(triton_kernels, name)
    signature = dict.fromkeys(kernel.arg_names, "i32")
    for argument in kernel.arg_names:
        if argument in SETTINGS:
            signature[argument] = "constexpr"
        elif argument.endswith("_ptr"):
            stem = argument.removesuffix("_ptr")
            kind = "fp32" if stem in FLOAT32 else "i64" if stem in INT64 else number
            kind = "i32" if stem == "keys" else kind
            signature[argument] = f"*{kind}"
    constants = {k: v for k, v in SETTINGS.items() if k in kernel.arg_names}
    compiled = triton.compile(
        ASTSource(fn=kernel, signature=signature, constexprs=constants),
        target=GPUTarget("cuda", 80, 32),
        options={"num_warps": 4, "num_stages": 1, "enable_fp_fusion": True},
    )
    assert compiled.asm["cubin"]
    assert ("mma.sync" in compiled.asm["ptx"]) == (number == "bf16")
    assert compiled.metadata.shared <= 96 * 2**10


@pytest.mark.slow
def test_the_tiles_of_the_table_fit_the_registers_of_an_h100(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu.registers", "--device", "cpu"]
    command += ["--kinds", "bf16,tf32", "--widths", "64", "--out", str(tmp_path)]
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    with (tmp_path / "gpu_registers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    for row in rows:
        assert row["stack_bytes"] == "0" and int(row["registers"]) <= 255, row
        assert row["tensor_cores"] != "none" and int(row["shared_kib"]) <= 227, row
