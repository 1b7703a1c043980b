"""What the ablation compares: data, ways to train, ways to fuse. Plain changes to settings, each under a name."""

from pathlib import Path
from typing import Any

from tascnet.commands.demo import demo_config
from tascnet.config import Config, DatasetConfig
from tascnet.files import read_yaml
from tascnet.settings import from_dict, to_dict

Changes = dict[str, Any]
"""Dotted name of a field of `Config` -> its value."""

_WITHOUT: Changes = {"loss.tasc": 0.0}
_TASC: Changes = {
    "loss.tasc": 0.5,
    "loss.tasc_warmup_steps": 200,
    "loss.tasc_stuff_mask": "probability",
    "loss.tasc_normalization": "active",
    "loss.tasc_gradient": "both",
}
_LITERAL = {"loss.tasc_stuff_mask": "confidence", "loss.tasc_normalization": "valid", "loss.tasc": 1.0}

TRAININGS: dict[str, Changes] = {
    "no TASC": _WITHOUT,
    "TASC": _TASC,
    "TASC, literal": _TASC | _LITERAL,
    "TASC, confidence masks": _TASC | {"loss.tasc_stuff_mask": "confidence"},
    "TASC, all pixels": _TASC | {"loss.tasc_normalization": "valid"},
    "TASC, weight 0.1": _TASC | {"loss.tasc": 0.1},
    "TASC, weight 2": _TASC | {"loss.tasc": 2.0},
    "TASC, from the first step": _TASC | {"loss.tasc_warmup_steps": 0},
    "TASC, things head learns": _TASC | {"loss.tasc_gradient": "things"},
    "no TASC, K channels": _WITHOUT | {"model.stuff_head.outputs": "all"},
    "TASC, K channels": _TASC | {"model.stuff_head.outputs": "all"},
    "no TASC, stride 2": _WITHOUT | {"model.stuff_head.stride": 2},
    "TASC, stride 2": _TASC | {"model.stuff_head.stride": 2},
    "no TASC, plain FPN": _WITHOUT | {"model.backbone.added_stages": False},
    "TASC, plain FPN": _TASC | {"model.backbone.added_stages": False},
}
"""Each differs from "no TASC" or "TASC" by what it says; "literal" is section 5 of the method to the letter."""

FUSIONS: dict[str, Changes] = {
    "un-guided": {"fusion.method": "unguided", "fusion.mask_threshold": 0.5},
    "un-guided, masks above 0.4": {"fusion.method": "unguided", "fusion.mask_threshold": 0.4},
    "mask-guided": {"fusion.method": "mask-guided", "fusion.mask_threshold": 0.5},
    "joint": {"fusion.method": "joint", "fusion.mask_threshold": 0.4},
    "joint, masks above 0.5": {"fusion.method": "joint", "fusion.mask_threshold": 0.5},
    "joint, no veto": {"fusion.method": "joint", "fusion.mask_threshold": 0.4, "fusion.veto": 0.0},
    "joint, veto 1": {"fusion.method": "joint", "fusion.mask_threshold": 0.4, "fusion.veto": 1.0},
}

BASELINE = ("no TASC", "un-guided")
"""Panoptic FPN's way, with the heads of this project."""

STREETS_TRAINED_ON = 300
STREETS_MEASURED_ON = 100
FIRST_UNSEEN_STREET = 4_000_000
"""Number of the first scene that measures; fusion was tuned on others, with networks of other seeds."""


def streets(seed: int, steps: int) -> Config:
    """Hard streets: few scenes, others for each seed."""
    config = demo_config(minutes=0, steps=steps)
    config.data.train = DatasetConfig(format="streets", num_images=STREETS_TRAINED_ON, seed=seed, difficulty="hard")
    config.data.val = DatasetConfig(
        format="streets", num_images=STREETS_MEASURED_ON, first=FIRST_UNSEEN_STREET, difficulty="hard"
    )
    return _shared(config, seed)


def coco_mini(seed: int, steps: int, root: Path) -> Config:
    """A hundred real photos in 27 groups of categories."""
    config = from_dict(read_yaml(Path(__file__).parent.parent / "configs" / "coco_mini.yaml"))
    config.data.train.root = config.data.val.root = str(root)
    config.training.steps, config.training.max_minutes = steps, 0
    return _shared(config, seed)


def _shared(config: Config, seed: int) -> Config:
    config.training.seed = seed
    config.training.validate_every = 0
    config.training.checkpoint_every = max(config.training.steps // 4, 1)
    config.training.keep_last = 1
    config.training.show_images = 0
    config.training.resume_if_exists = True
    return config


def changed(config: Config, changes: Changes) -> Config:
    """A config with some fields set, checked like one of a file."""
    values = to_dict(config)
    for name, value in changes.items():
        *groups, field = name.split(".")
        group = values
        for key in groups:
            group = group[key]
        group[field] = value
    return from_dict(values)
