"""The config of a joint: a model of a few weights on a few images, for the command line."""

import math
from typing import Any

from benchmarks.fuzz.joint import BINARY, ESTIMATED, ESTIMATORS, GRIDS, PRIORS, Joint
from dvae import schedules
from dvae.schedules import Schedule

__all__ = [
    "BATCHES",
    "BATCH_SIZE",
    "EPOCHS",
    "EXPERIMENT",
    "TEST",
    "TRAIN",
    "VAL",
    "config_of",
    "learning_rate",
    "length",
    "run_steps",
    "schedules_of",
    "steps_after",
    "tau_moves",
]

EXPERIMENT = "joint"
BATCH_SIZE, BATCHES, EPOCHS = 4, 3, 3
VAL, TEST = 8, 8
TRAIN = BATCH_SIZE * BATCHES + VAL
LR = 0.01
_MNIST, _COLOUR = (1, 28, 28), (3, 16, 16)
# Below the window of SSIM.
_SMALL = (3, 8, 8)

_Spec = dict[str, Any]


def config_of(joint: Joint, root: str, images: str, seed: int) -> _Spec:
    """Write the config of a joint.

    Args:
        joint: The joint.
        root: Folder of the runs.
        images: Folder of images, with splits.
        seed: Seed of the run.
    """
    config: _Spec = {
        "seed_everything": seed,
        "experiment": EXPERIMENT,
        "model": {"class_path": _model(joint), "init_args": _parts(joint)},
        "data": _data(joint, images),
        "trainer": _trainer(joint, root),
        "nonfinite": joint["nonfinite"],
        "checkpoints": {"every_n_steps": None},
        "reconstructions": {"every_n_epochs": int(joint["pictures"]), "count": 3},
        "latents": {"every_n_epochs": int(joint["pictures"]), "images": VAL, "rows": 2},
    }
    if joint["checkpoint_every"] != "null":
        config["checkpoints"]["every_n_steps"] = int(joint["checkpoint_every"])
    anneal = _specs(joint)
    config["anneal"] = {name: anneal[name] for name in ("tau", "beta") if name in anneal}
    return config


def _model(joint: Joint) -> str:
    return "CodebookVAE" if joint["bottleneck"] in GRIDS else "CategoricalVAE"


def _shape(joint: Joint) -> list[int]:
    if joint["data"].startswith("mnist"):
        return list(_MNIST)
    return list(_SMALL if joint["data"] == "small folder" else _COLOUR)


def _parts(joint: Joint) -> _Spec:
    bottleneck, shape = joint["bottleneck"], _shape(joint)
    grid = bottleneck in GRIDS
    network: _Spec = {"class_path": "MLP", "init_args": {"image_shape": shape, "hidden": [6]}}
    if grid:
        # A grid of 7x7, or of 2x2, whose codes can be visited.
        levels = {"halvings": 3 if shape[1] == 16 else 2}
        network = {
            "class_path": "ResNet",
            "init_args": {"image_shape": shape, "width": 8, "blocks": 1, **levels},
        }
    parts: _Spec = {
        "network": network,
        "bottleneck": {"class_path": bottleneck, "init_args": _code(joint)},
        "prior": {"class_path": joint["prior"], "init_args": dict(PRIORS.get(joint["prior"], {}))},
        "likelihood": {"class_path": joint["likelihood"]},
        "objective": _OBJECTIVES[joint["objective"]],
        "optimizer": _optimizer(joint),
        "evaluation": {"iwae_samples": 4, "chunk": 16, "max_states": 100, "seed": 0},
    }
    if "lr" in _specs(joint):
        parts["lr_schedule"] = _specs(joint)["lr"]
    return parts


_OBJECTIVES: dict[str, _Spec] = {
    "ELBO": {"class_path": "ELBO"},
    "two samples": {"class_path": "ELBO", "init_args": {"samples": 2}},
    "IWAE": {"class_path": "IWAE", "init_args": {"samples": 2}},
    "PriorLikelihood": {"class_path": "PriorLikelihood"},
}
_OPTIMIZERS: dict[str, _Spec] = {
    "AdamW fused": {"class_path": "torch.optim.AdamW", "init_args": {"lr": LR, "fused": True}},
    "Adam": {"class_path": "torch.optim.Adam", "init_args": {"lr": LR}},
    # Gradients of a sum over pixels are large: at the others' rate it diverges, and is said to.
    "SGD": {"class_path": "torch.optim.SGD", "init_args": {"lr": LR / 30, "momentum": 0.9}},
}


def _optimizer(joint: Joint) -> _Spec:
    # As their docstrings say: the unit of what they learn by is that of f squared.
    adaptive = joint["optimizer"] == "SGD" and joint["estimator"] in ("REBAR", "RELAX")
    return _OPTIMIZERS["Adam" if adaptive else joint["optimizer"]]


def learning_rate(joint: Joint) -> float:
    """Return the learning rate that the joint's schedule is a factor on."""
    rate: float = _optimizer(joint)["init_args"]["lr"]
    return rate


def _code(joint: Joint) -> _Spec:
    bottleneck, estimator = joint["bottleneck"], joint["estimator"]
    binary = estimator in BINARY
    code: _Spec = dict(GRIDS.get(bottleneck, {"num_latents": 3, "num_codes": 3}))
    if bottleneck in ESTIMATED:
        code["estimator"] = {"class_path": estimator, "init_args": dict(ESTIMATORS[estimator])}
        if binary:
            code["num_codes"] = 2
    if bottleneck == "ProjectedCodebook":
        code["kernel"] = joint["kernel"]
    if bottleneck in (*ESTIMATED[1:], "VQ", "RotationVQ", "DiVeQ", "ResidualVQ"):
        # Revived all the time.
        code["upkeep"] = {"kmeans": 2, "revive_after": 2}
    return code


def _data(joint: Joint, images: str) -> _Spec:
    common = {"batch_size": BATCH_SIZE, "val_size": 0 if joint["validate"] == "never" else VAL}
    if not joint["data"].startswith("mnist"):
        settings = {**common, "data_dir": images, "image_size": _shape(joint)[1]}
        return {"class_path": "ImageFolder", "init_args": settings}
    binarization = "dynamic" if joint["data"] == "mnist dynamic" else "none"
    return {"class_path": "MNIST", "init_args": {**common, "binarization": binarization}}


def _trainer(joint: Joint, root: str) -> _Spec:
    trainer: _Spec = {
        "default_root_dir": root,
        "accelerator": "cpu",
        "devices": 1,
        "limit_train_batches": BATCHES,
        "log_every_n_steps": int(joint["log_every"]),
        "accumulate_grad_batches": int(joint["accumulate"]),
        "callbacks": [_CALLBACKS[joint["callback"]]] if joint["callback"] != "none" else None,
        **length(joint),
        **_VALIDATE.get(joint["validate"], {}),
    }
    if joint["precision"] == "16-mixed":
        # On a CPU Lightning makes bf16-mixed of it unless its plugin is named: this is the
        # arithmetic of a GPU, with a GradScaler.
        scaled = {"precision": "16-mixed", "device": "cpu"}
        path = "pytorch_lightning.plugins.precision.MixedPrecision"
        trainer["plugins"] = [{"class_path": path, "init_args": scaled}]
    else:
        trainer["precision"] = joint["precision"]
    if joint["clip"] != "none":
        trainer |= {"gradient_clip_val": 0.5, "gradient_clip_algorithm": joint["clip"]}
    if joint["logger"] == "false":
        trainer["logger"] = False
    return trainer


_VALIDATE: dict[str, _Spec] = {
    "each batch": {"val_check_interval": 1},
    "2 batches": {"val_check_interval": 2},
    "2 batches across": {"val_check_interval": 2, "check_val_every_n_epoch": None},
    "2 epochs": {"check_val_every_n_epoch": 2},
}
_CALLBACKS: dict[str, _Spec] = {
    "GradientProbe": {
        "class_path": "GradientProbe",
        "init_args": {
            "every_n_steps": 2,
            "batch": 4,
            "draws": 2,
            "max_states": 100,
            "reference_draws": 128,
        },
    },
    "ModelCheckpoint": {
        "class_path": "ModelCheckpoint",
        "init_args": {
            "save_top_k": -1,
            "filename": "epoch{epoch}",
            "auto_insert_metric_name": False,
        },
    },
    "LearningRateMonitor": {"class_path": "LearningRateMonitor"},
    "EMA": {
        "class_path": "pytorch_lightning.callbacks.EMAWeightAveraging",
        "init_args": {"decay": 0.5, "use_buffers": False},
    },
}


def steps_after(joint: Joint, batches: int) -> int:
    """Count the optimizer steps of the first batches of a run.

    Args:
        joint: The joint.
        batches: How many.
    """
    accumulate = int(joint["accumulate"])
    epochs, rest = divmod(batches, BATCHES)
    return epochs * math.ceil(BATCHES / accumulate) + rest // accumulate


def run_steps(joint: Joint) -> int:
    """Count the optimizer steps of the whole run: to its end, or one step before.

    Args:
        joint: The joint.
    """
    steps = steps_after(joint, BATCHES * EPOCHS)
    return steps if joint["length"] == "epochs" else max(1, steps - 1)


def length(joint: Joint) -> dict[str, int]:
    """Write the keys of the trainer that say how long the whole run is.

    Args:
        joint: The joint.
    """
    return {
        "epochs": {"max_epochs": EPOCHS, "max_steps": -1},
        "steps": {"max_epochs": -1, "max_steps": run_steps(joint)},
        "both": {"max_epochs": EPOCHS, "max_steps": run_steps(joint)},
    }[joint["length"]]


def tau_moves(joint: Joint) -> bool:
    """Tell whether the run has a temperature that a schedule moves.

    Args:
        joint: The joint.
    """
    return joint["bottleneck"] in ESTIMATED and joint["estimator"] in _WITH_TAU


# REBAR's and RELAX's are learned.
_WITH_TAU = [n for n, x in ESTIMATORS.items() if "tau" in x and n not in ("REBAR", "RELAX")]


def _spec(name: str, **settings: Any) -> _Spec:
    return {"class_path": name, "init_args": settings}


def _specs(joint: Joint) -> dict[str, _Spec]:
    warm = _spec("Linear", start=0.2, end=1.0, steps=3)
    tau = {"start": 2.0, "end": 1.2}
    found = {
        "none": {},
        "steps": {
            "lr": _spec("Sequential", parts=[warm, _spec("Cosine", start=1.0, end=0.1, steps=4)]),
            "tau": _spec("Cosine", **tau, steps=5),
            "beta": _spec("Linear", start=0.0, end=1.0, steps=6),
        },
        "open": {
            "lr": _spec("Cosine", start=1.0, end=0.1),
            "tau": _spec("Linear", **tau),
            "beta": _spec("Linear", start=0.0, end=1.0, steps=0.5),
        },
        "nested": {
            "lr": _spec(
                "Sequential",
                parts=[warm, _spec("Sequential", parts=[_spec("Cosine", start=1.0, end=0.1)])],
            ),
            "tau": _spec("Rescaled", schedule=_spec("Linear", start=1.0, end=1.2), start=2.0),
            "beta": _spec("Cyclical", cycles=2),
        },
    }[joint["schedules"]]
    # These have no weight of the KL, and what is not there is not annealed.
    absent = {"beta"} if joint["objective"] in ("IWAE", "PriorLikelihood") else set()
    absent |= set() if tau_moves(joint) else {"tau"}
    return {name: spec for name, spec in found.items() if name not in absent}


def schedules_of(joint: Joint) -> dict[str, Schedule]:
    """Build the schedules of the learning rate's factor, of tau and of beta, where there are any.

    Args:
        joint: The joint.
    """
    return {name: _build(spec) for name, spec in _specs(joint).items()}


def _build(spec: Any) -> Any:
    if isinstance(spec, list):
        return [_build(part) for part in spec]
    if not isinstance(spec, dict):
        return spec
    settings = {key: _build(value) for key, value in spec["init_args"].items()}
    return getattr(schedules, spec["class_path"])(**settings)
