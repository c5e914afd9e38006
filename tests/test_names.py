"""What people use is importable from the top, and `import dvae` costs no import of torch."""

import inspect
import subprocess
import sys
from importlib import import_module

import pytest

import dvae
from dvae.names import full_path, home
from dvae.sharing.config import build_model


def test_the_names_are_those_of_models_and_estimators():
    for module in ("dvae.models", "dvae.estimators"):
        for name in import_module(module).__all__:
            assert getattr(dvae, name) is getattr(import_module(module), name)
            assert full_path(f"dvae.{name}") == full_path(f"{module}.{name}") == f"{module}.{name}"
    assert {"CategoricalVAE", "CodebookVAE", "GumbelSoftmax", "StraightThrough", "ReinMax"} < {
        *home()
    }
    assert set(dvae.__all__) == {"__version__", *home()} <= set(dir(dvae))
    names = {}
    exec("from dvae import *", names)  # what a star takes is decided by Python
    assert set(dvae.__all__) <= set(names)


@pytest.mark.parametrize("name", ["Nothing", "nothing", "__wrapped__"])
def test_what_there_is_not_is_said_as_python_does(name):
    with pytest.raises(AttributeError, match=f"module 'dvae' has no attribute '{name}'"):
        getattr(dvae, name)


def test_nothing_is_imported_before_it_is_used():
    code = "import sys, dvae; from dvae import extras; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_config_may_name_a_class_by_either_path():
    for path in ("dvae.CategoricalVAE", "dvae.models.CategoricalVAE"):
        assert type(build_model({"class_path": path})) is dvae.CategoricalVAE
    classes = [name for name in home() if name != "load"]
    assert all(inspect.isclass(getattr(dvae, name)) for name in classes)
