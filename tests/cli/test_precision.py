"""`--trainer.precision auto`: what it chooses, where it says so, and what a run keeps of it."""

import re
from pathlib import Path

import pytest
import torch
import yaml

from dvae.cli.precision import Trainer
from dvae.models.precision import check_precision, faster_precision

CONFIGS = Path(__file__).parents[2] / "configs"
AMX = {"architecture": "x86_64", "amx_bf16": True}
AVX = {"architecture": "x86_64", "amx_bf16": False, "avx512_bf16": True}
AUTO = "--trainer.precision=auto"
HALF, SINGLE = "bf16-mixed", "32-true"


@pytest.fixture
def machine(monkeypatch):
    """Make this a machine with such a CPU and GPU, ``None`` for no GPU."""

    def make(cpu, gpu=None):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: cpu)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu is not None)
        # Asked without emulation, which every GPU has.
        supported = lambda including_emulation=True: including_emulation or bool(gpu)  # noqa: E731
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)

    return make


@pytest.mark.parametrize(
    ("cpu", "gpu", "accelerator", "expected"),
    [
        (AMX, None, "auto", HALF),
        (AMX, None, "cpu", HALF),
        (AVX, None, "auto", SINGLE),
        (AVX, None, "cpu", SINGLE),
        ({"architecture": "aarch64"}, None, "auto", SINGLE),
        (AVX, True, "auto", HALF),
        (AVX, True, "gpu", HALF),
        (AVX, True, "cuda", HALF),
        (AVX, True, "cpu", SINGLE),
        (AMX, False, "auto", SINGLE),  # an older GPU, which is what the run is on
        (AMX, False, "gpu", SINGLE),
        (AMX, False, "cpu", HALF),
        (AMX, None, "mps", SINGLE),
        (AMX, None, object(), SINGLE),
    ],
)
def test_it_is_the_one_that_a_matrix_unit_of_the_device_multiplies(
    cpu, gpu, accelerator, expected, machine
):
    machine(cpu, gpu)
    assert faster_precision(accelerator)[0] == expected


@pytest.mark.parametrize(("cpu", "expected"), [(AMX, HALF), (AVX, SINGLE)])
def test_a_run_is_trained_in_it_and_repeats_it_on_any_machine(run, machine, cpu, expected):
    machine(cpu)
    done = run(AUTO)
    assert done.seen.dtypes == {torch.bfloat16 if expected == HALF else torch.float32}
    (line,) = re.findall(r"trainer\.precision auto: (\S+), as (?:this CPU|no unit)", done.text)
    assert line == expected
    (config,) = done.files("config.yaml")
    assert yaml.safe_load(config.read_text())["trainer"]["precision"] == expected
    machine(AVX if cpu is AMX else AMX)
    again = run("--config", str(config), "--experiment=again")
    assert again.trainer.precision == expected and again.seen.dtypes == done.seen.dtypes


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_every_command_takes_it(run, machine, command):
    machine(AMX)
    (best,) = run().files("best.ckpt")
    done = run(AUTO, f"--ckpt_path={best}", command=command)
    assert done.trainer.precision == HALF and "precision auto: bf16-mixed" in done.text


@pytest.mark.parametrize("other", [AMX, AVX])
def test_a_run_that_goes_on_says_that_it_is_another(run, machine, other):
    machine(AMX)
    run(AUTO)
    machine(other)
    done = run(AUTO, "--ckpt_path=last", "--trainer.max_epochs=2")
    said = "was trained in bf16-mixed and goes on in 32-true, whose digits are others"
    assert (said in done.text) == (other is AVX)


def test_in_python_too(machine):
    machine(AMX)
    assert Trainer(accelerator="cpu", precision="auto", logger=False).precision == HALF
    assert Trainer(accelerator="cpu", logger=False).precision == SINGLE


@pytest.mark.parametrize("given", [None, 32, "32", "32-true", 16, "16", "bf16", "16-mixed"])
def test_the_spellings_of_others_are_taken(given):
    check_precision(given)


@pytest.mark.parametrize("given", ["auto", "half", "bf16-true", 64, "nf4"])
def test_any_other_is_refused(given):
    with pytest.raises(ValueError, match=f"must be one of 32-true, .*; got {given}$"):
        check_precision(given)


def test_convolutional_configs_leave_it_to_the_machine_but_for_the_recipes_of_papers():
    found = {}
    for path in CONFIGS.glob("*.yaml"):
        config = yaml.safe_load(path.read_text())
        found[path.stem] = config.get("trainer", {}).get("precision")
    auto = {name for name, precision in found.items() if precision == "auto"}
    images = {name for name in found if name.startswith("cifar10")} | {"imagefolder", "tokenizer"}
    assert auto == images - {"cifar10_sqvae", "cifar10_dalle"}
