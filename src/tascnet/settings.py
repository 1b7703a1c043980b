"""Plain values from a file or a checkpoint -> `Config`, checked before any data is read; and back."""

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, fields, is_dataclass, replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentError, ArgumentParser

from tascnet.config import CONVENTIONS, Config, DataConfig, DatasetConfig, FusionOptions, InputConfig, ModelConfig
from tascnet.errors import InputError, shorten, shown
from tascnet.files import read_yaml

_POSITIVE = (
    "data.batch_size",
    "data.input.max_long_side",
    "model.pyramid_channels",
    "model.things_head.rpn_samples",
    "model.things_head.pre_nms",
    "model.things_head.post_nms",
    "model.things_head.rpn_convs",
    "model.things_head.roi_samples",
    "model.things_head.box_channels",
    "model.things_head.mask_channels",
    "model.things_head.mask_convs",
    "model.things_head.max_detections",
    "optimizer.lr",
    "training.accumulate",
    "training.devices",
    "training.keep_last",
    "training.steps",
    "training.checkpoint_every",
    "training.log_every",
)
_NOT_NEGATIVE = (
    "data.workers",
    "data.input.load_short_side",
    "data.input.short_side",
    "model.things_head.box_convs",
    "model.things_head.unused_classes",
    "model.things_head.sampling_ratio",
    "fusion.min_stuff_area",
    "fusion.veto",
    "loss.stuff",
    "loss.tasc",
    "loss.tasc_warmup_steps",
    "optimizer.weight_decay",
    "optimizer.backbone_lr_factor",
    "optimizer.lr_batch",
    "optimizer.clip_norm",
    "optimizer.warmup_steps",
    "optimizer.poly_power",
    "training.max_minutes",
    "training.validate_every",
    "training.show_images",
    "training.seed",
)
_SHARES = (
    "data.input.flip",
    "data.input.color_jitter",
    "data.input.crop_on_things",
    "data.input.copy_paste",
    "data.repeat_threshold",
    "model.things_head.score_threshold",
    "model.things_head.nms_iou",
    "fusion.score_threshold",
    "fusion.overlap_threshold",
    "fusion.mask_threshold",
    "fusion.min_stuff_share",
    "optimizer.backbone_layer_decay",
    "optimizer.momentum",
)
_LAYER_COUNTS = (
    "model.things_head.rpn_convs",
    "model.things_head.box_convs",
    "model.things_head.mask_convs",
)
_MAX_LAYERS = 100
"""Bound of these: building a billion layers takes all memory, whatever their size. Known networks have up to 4."""

_CHANNELS = (
    "model.pyramid_channels",
    "model.backbone.added_channels",
    "model.stuff_head.channels",
    "model.things_head.box_channels",
    "model.things_head.mask_channels",
)
_MAX_CHANNELS = 2**16
"""Bound of these: a convolution between two such layers has 38 billion weights. Known networks have up to 2048."""

MAX_INTEGER = 2**31 - 1
"""Bound of all integers but seeds: pixels, channels and steps go to libraries that count with 32 bits."""

MAX_SEED = 2**63 - 1
"""Bound of seeds, which PyTorch and numpy take as 64 bits with a sign."""

_MAX_LIST = 1000
"""Entries of a list in the settings."""

_IN_CONVENTIONS = (
    ("model.stuff_head", "label_at"),
    ("model.things_head", "rounded_anchors"),
    ("model.things_head", "aligned_rois"),
    ("fusion", "via_input"),
    ("data.input", "resize_with"),
)
"""Groups and names of single settings in earlier runs that `model.conventions` has replaced."""

_REMOVED = {("loss", "tasc_distance"): "squared"}
"""Group and name of settings in earlier runs that were removed -> the value that now holds for all runs."""

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
"""Endings of files of weights that are read without executing anything."""

SHORT_FORMS = ("output", "resume", "init", "device", "devices")
"""Flags of `tascnet train` that are not settings; --print_config writes them, too, so files may contain them."""

NETWORK = (
    "a run folder, a checkpoint folder, a shared folder or .safetensors file, a file of weights made elsewhere, a name "
    "that tascnet weights list shows, or hf:OWNER/NAME of Hugging Face's hub"
)
"""All that a user may give where a network is wanted; `opening.open_network` opens it."""

Use = Literal["newest", "average", "best"]
"""Which weights of a run are taken: those of its newest checkpoint, their average, or those with the best PQ so far."""


def check(config: Config) -> Config:
    """Check what types alone cannot: ranges and combinations; return the config.

    Raises:
        InputError: naming the field, its value, and what it must be.
    """
    from tascnet.data.formats.table import check_dataset  # noqa: PLC0415 - imports torch

    _check_all_but_data_sets(config)
    check_dataset(config.data.train, "data.train")
    check_dataset(config.data.val, "data.val")
    return config


def _check_all_but_data_sets(config: Config) -> Config:
    _check_bounds(to_dict(config), "")
    for name in _LAYER_COUNTS:
        value = _value(config, name)
        _require(name, value, value <= _MAX_LAYERS, f"at most {_MAX_LAYERS}")
    for name in _CHANNELS:
        value = _value(config, name)
        _require(name, value, value <= _MAX_CHANNELS, f"at most {_MAX_CHANNELS:,}")
    for name in _POSITIVE:
        value = _value(config, name)
        _require(name, value, value > 0, "greater than 0")
    for name in _NOT_NEGATIVE:
        value = _value(config, name)
        if value is not None:  # an option that is left to its default
            _require(name, value, value >= 0, "0 or more")
    for name in _SHARES:
        value = _value(config, name)
        _require(name, value, 0 <= value <= 1, "from 0 to 1")
    _check_input(config.data.input)
    _check_training_set(config.data)
    _check_model(config.model)
    for milestone in config.optimizer.milestones:
        _require("a number in optimizer.milestones", milestone, 0 <= milestone <= 1, "from 0 to 1")
    _check_training(config)
    return config


def change_fusion(fusion: FusionOptions, changes: Mapping[str, Any]) -> FusionOptions:
    """Replace settings of fusion; `min_stuff_share` given without `min_stuff_area` takes the place of pixels."""
    if "min_stuff_share" in changes and "min_stuff_area" not in changes:
        changes = {**changes, "min_stuff_area": None}
    return replace(fusion, **changes)


def told_settings(dataset: DatasetConfig) -> dict[str, Any]:
    """What there is to tell of a data set: its format, and the settings that differ from the defaults."""
    defaults = DatasetConfig(format=dataset.format)
    return {"format": dataset.format} | {
        name: value for name, value in asdict(dataset).items() if value != getattr(defaults, name)
    }


def to_dict(config: Config) -> dict[str, Any]:
    """A config as plain values, for a YAML file."""
    return asdict(config)


def from_dict(values: dict[str, Any]) -> Config:
    """Build a `Config` from plain values, as a YAML file or a checkpoint holds them; missing fields take defaults.

    Raises:
        InputError: a key is unknown, a value is empty or not of the field's type, or `check` objects.
    """
    return check(_parsed(values))


def network_config(values: dict[str, Any]) -> Config:
    """Build the `Config` of a network that is trained already. Its data sets may be wanting: who opens one checks it.

    A network made elsewhere was trained on nothing that these settings could say.

    Raises:
        InputError: as `from_dict`, but for the data sets.
    """
    return _check_all_but_data_sets(_parsed(values))


def _parsed(values: dict[str, Any]) -> Config:
    values = _of_today(values)
    _check_groups(values, Config)
    parser = _parser()
    try:
        return Config(**vars(parser.instantiate_classes(parser.parse_object(values))))
    except (ArgumentError, KeyError, TypeError, RecursionError, OverflowError) as error:
        # the error quotes values, which may be of any size
        raise InputError(f"the settings are not valid: {shorten(str(error), 600)}") from error


def _of_today(values: dict[str, Any]) -> dict[str, Any]:
    """Settings of earlier versions, which stored runs have, in the form of today; the same object if there are none.

    Raises:
        InputError: some have no equivalent.
    """
    return _with_conventions(_without_removed(values))


def _without_removed(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a run without settings that were removed since.

    Raises:
        InputError: one of them has another value than the one that now holds for all runs.
    """
    for (path, name), only in _REMOVED.items():
        if name not in (group := _group(values, path)):
            continue
        if group[name] != only:
            raise InputError(
                f"{path}.{name} is {shown(group[name])}; the setting was removed, and {shown(only)} holds for all "
                "runs. Remove it from the settings."
            )
        values = deepcopy(values)
        del _group(values, path)[name]
    return values


def _with_conventions(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a run that holds single settings where `model.conventions` now stands, with that word instead.

    Raises:
        InputError: no conventions define all of them so.
    """
    given = {(path, name): group[name] for path, name in _IN_CONVENTIONS if name in (group := _group(values, path))}
    if not given:
        return values
    for conventions_name, conventions in CONVENTIONS.items():
        if all(getattr(conventions, name) == value for (_, name), value in given.items()):
            values = deepcopy(values)
            for path, name in given:
                del _group(values, path)[name]
            values.setdefault("model", {}).setdefault("conventions", conventions_name)
            return values
    listed = ", ".join(f"{path}.{name} {shown(value)}" for (path, name), value in given.items())
    raise InputError(
        f"{listed} are single settings that model.conventions has replaced, and none of {', '.join(CONVENTIONS)} "
        "defines them all so. Remove them, and set model.conventions."
    )


def _group(values: Mapping[str, Any], path: str) -> Any:
    """The group of that dotted name; empty where there is none."""
    for name in path.split("."):
        group = values.get(name, {})
        values = group if isinstance(group, Mapping) else {}
    return values


def read_config(path: Path) -> Config:
    """Read a config file.

    Raises:
        InputError: it is missing, is not YAML, or has unknown or wrong settings.
    """
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no settings. Give a config file or a run folder.")
    try:
        return from_dict(_without_short_forms(values))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _without_short_forms(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in SHORT_FORMS}


def first_difference(config: Config, other: Config) -> str:
    """The first setting in which two runs differ, with both values; empty where they are the same run."""
    return _first_difference(to_dict(config), to_dict(other), "")


def read_settings(path: str | Path) -> dict[str, Any]:
    """Read a configuration file, and check its names; a misspelt group with nothing in it gets lost in merging.

    Args:
        path: YAML file; it may contain the `SHORT_FORMS`, too, and settings of earlier versions.

    Returns:
        Its content, settings of earlier versions translated into those of today.

    Raises:
        InputError: the file cannot be read, a key is unknown, or a value is empty.
    """
    values = read_yaml(path)
    if not isinstance(values, Mapping):
        raise InputError(f"{path} holds no settings; it needs groups such as data and model. Write some.")
    try:
        values = _of_today(dict(values))
        _check_groups(_without_short_forms(values), Config)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return values


@cache
def _parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Config)
    return parser


def _first_difference(values: Mapping[str, Any], others: Mapping[str, Any], prefix: str) -> str:
    for name, value in values.items():
        if isinstance(value, Mapping):
            if inner := _first_difference(value, others[name], f"{prefix}{name}."):
                return inner
        elif value != others[name] and prefix + name != "training.resume_if_exists":
            return f"{prefix}{name} is {value}, there it is {others[name]}"
    return ""


def _check_groups(values: Mapping[str, Any], group: type, prefix: str = "") -> None:
    """Check names, that groups of settings are groups, and that values are not empty, which jsonargparse lets pass."""
    known = [setting.name for setting in fields(group)]
    for name in values:
        if name not in known:
            raise InputError(
                f"{prefix}{shorten(str(name), 80)} is not a setting; known are {', '.join(known)}. Mend the name."
            )
    for setting in fields(group):
        name, value = prefix + setting.name, values.get(setting.name, ...)
        if value is None and setting.default is not None:
            raise InputError(f"{name} is empty; give it a value, or leave it out for the default.")
        if value is not ... and setting.type is str and not isinstance(value, str):
            written = str(value) if isinstance(value, date) else shown(value)
            raise InputError(
                f"{name} is {written}, which YAML reads as {_kind_of(value)}; text is wanted. Put it in quotes, "
                f'as {setting.name}: "2017" or {setting.name}: "on".'
            )
        if value is not ... and isinstance(setting.type, type) and is_dataclass(setting.type):
            if not isinstance(value, Mapping):
                raise InputError(f"{name} is {shown(value)}; it is a group of settings. Name one of them.")
            _check_groups(value, setting.type, f"{name}.")


def _kind_of(value: Any) -> str:
    """For a message: the type that YAML gives to a value without quotes."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, date):  # or a time, which is one, too
        return "a date"
    if isinstance(value, Mapping):
        return "a group"
    return "a list" if isinstance(value, list) else "something else"


def _check_bounds(value: Any, name: str) -> None:
    """Check that every number of the settings is one that computers count with, and every list is of sane length."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            _check_bounds(entry, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        if len(value) > _MAX_LIST:
            raise InputError(f"{name} has {len(value):,} entries; it must have at most {_MAX_LIST:,}.")
        for entry in value:
            _check_bounds(entry, name)
    elif isinstance(value, int):
        most = MAX_SEED if name.endswith(".seed") else MAX_INTEGER
        _require(name, value, abs(value) <= most, f"at most {most:,}")
    elif isinstance(value, float):
        _require(name, value, math.isfinite(value), "a finite number")


def _check_input(inputs: InputConfig) -> None:
    low, high = inputs.scale_jitter
    if not 0 < low <= high < math.inf:
        raise InputError(
            f"data.input.scale_jitter is {low}, {high}; it must be two positive numbers, the smaller first."
        )
    for side in inputs.multi_scale:
        _require("a length in data.input.multi_scale", side, side > 0, "greater than 0")
    if inputs.load_short_side and not 0 < inputs.short_side <= inputs.load_short_side:
        raise InputError(
            f"data.input.load_short_side is {inputs.load_short_side}, with a short_side of {inputs.short_side}: "
            "training would see objects at another size than evaluation. Set short_side, to no more than that; or set "
            "load_short_side to 0, which reads photos at full size."
        )
    if inputs.load_short_side and max(inputs.multi_scale, default=0) > inputs.load_short_side:
        raise InputError(
            f"data.input.multi_scale goes up to {max(inputs.multi_scale)}, but photos are read with a short side of "
            f"load_short_side {inputs.load_short_side}: they would be enlarged again. Raise load_short_side, or set it "
            "to 0, which reads photos at full size."
        )
    if inputs.crop and (len(inputs.crop) != 2 or min(inputs.crop) < 32):
        raise InputError(
            f"data.input.crop is {inputs.crop}; it must be height and width of at least 32 pixels, or empty."
        )
    if inputs.crop_on_things and not inputs.crop:
        raise InputError(
            f"data.input.crop_on_things is {inputs.crop_on_things}, but there is no crop. "
            "Give data.input.crop its height and width, or set crop_on_things to 0."
        )


def _check_training_set(data: DataConfig) -> None:
    """Check that its images are enough, and large enough, for their augmentation; as far as the settings tell."""
    if data.input.copy_paste and data.train.num_images == 1:
        raise InputError(
            f"data.input.copy_paste is {data.input.copy_paste}, but data.train.num_images is 1: there is no other "
            "image to take things from. Raise num_images, or set copy_paste to 0."
        )
    if not data.input.crop:
        return
    short, long = _largest_sides(data)
    if min(data.input.crop) > short or max(data.input.crop) > long:
        raise InputError(
            f"data.input.crop is {data.input.crop}, but at the largest factor of scale_jitter the sides of a photo "
            f"have at most {short:.0f} and {long:.0f} pixels: every sample would be padded. Lower crop, or raise "
            "short_side, max_long_side or scale_jitter."
        )


def _largest_sides(data: DataConfig) -> tuple[float, float]:
    """Bounds on the short and on the long side of a photo that is scaled for training, pixels."""
    inputs, largest_factor = data.input, data.input.scale_jitter[1]
    wanted, long = max(inputs.multi_scale, default=inputs.short_side), inputs.max_long_side
    if data.train.format != "streets":
        return min(wanted or math.inf, long) * largest_factor, long * largest_factor
    short_side, long_side = sorted((data.train.height, data.train.width))  # their size is known
    factor = min(wanted / short_side if wanted else 1, long / long_side) * largest_factor
    return short_side * factor, long_side * factor


def _check_training(config: Config) -> None:
    """Check what does not go together, whatever the machine."""
    training = config.training
    _require("training.ema_decay", training.ema_decay, 0 <= training.ema_decay < 1, "from 0 to less than 1")
    if training.strategy == "fsdp" and training.compile:
        raise InputError(
            "training.strategy is fsdp, and training.compile is set: parts of a network that is split over processes "
            "are not compiled. Set compile to false, or strategy to ddp."
        )
    if training.strategy == "fsdp" and training.precision == "16-mixed":
        raise InputError(
            "training.strategy is fsdp, and training.precision is 16-mixed: the scaler of 16-bit gradients does not "
            "know of gradients that are split over processes. Set precision to bf16-mixed, or strategy to ddp."
        )
    if config.data.on_bad_sample == "skip" and config.data.keep_in_memory:
        raise InputError(
            "data.on_bad_sample is skip, but data.keep_in_memory reads every picture before the first step. Set "
            "keep_in_memory to false, or remove the pictures that `tascnet data check` names."
        )


def _check_model(model: ModelConfig) -> None:
    weights = model.backbone.weights
    if weights not in ("imagenet", "random") and Path(weights).suffix not in WEIGHT_SUFFIXES:
        raise InputError(
            f"model.backbone.weights is {weights!r}; it must be imagenet, random, or the path of a file that ends in "
            f"{', '.join(WEIGHT_SUFFIXES)}."
        )
    levels = 6 if model.backbone.added_stages else 5
    anchor_sizes, anchor_ratios = model.things_head.anchor_sizes, model.things_head.anchor_ratios
    if not 1 <= len(anchor_sizes) <= levels:
        raise InputError(
            f"model.things_head.anchor_sizes has {len(anchor_sizes)} sizes; the pyramid has {levels} levels, "
            f"so give 1 to {levels}."
        )
    if not anchor_ratios:
        raise InputError("model.things_head.anchor_ratios is empty; give at least one ratio of height and width.")
    for size in anchor_sizes:
        _require("a size in model.things_head.anchor_sizes", size, size > 0, "greater than 0")
    for ratio in anchor_ratios:
        _require("a ratio in model.things_head.anchor_ratios", ratio, ratio > 0, "greater than 0")
    # group norm needs two channels or more; the added stages are bottlenecks of a quarter of their width
    for name, channels, least in (
        ("model.stuff_head.channels", model.stuff_head.channels, 2),
        ("model.backbone.added_channels", model.backbone.added_channels, 8),
    ):
        _require(name, channels, channels >= least, f"{least} or more")
    if model.stuff_head.merge == "sum" and model.stuff_head.stride != 4:
        raise InputError(
            f"model.stuff_head.stride is {model.stuff_head.stride}; with merge 'sum' it is 4. Set merge to concatenate."
        )
    widths = model.backbone.widths
    if widths and (len(widths) != 4 or min(widths) < 1):
        raise InputError(f"model.backbone.widths is {widths}; it must be four positive numbers, or empty.")


def _value(config: Config, name: str) -> float:
    value: Any = config
    for part in name.split("."):
        value = getattr(value, part)
    return value


def _require(name: str, value: float, holds: bool, wanted: str) -> None:
    if not holds or not math.isfinite(value):
        raise InputError(f"{name} is {shown(value)}; it must be {wanted}.")
