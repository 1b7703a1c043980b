"""The schema: plain values and back, and every wrong value named before anything is read."""

from copy import deepcopy
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tascnet.config import Config, DatasetConfig, FusionOptions
from tascnet.data.formats.table import check_dataset
from tascnet.errors import InputError
from tascnet.settings import change_fusion, check, first_difference, from_dict, read_settings, to_dict

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
STREETS = {"format": "streets", "num_images": 3}


def config_with(name: str, value: object) -> dict[str, Any]:
    """The settings of a run on streets, and one more."""
    values: dict[str, Any] = {"data": {"train": dict(STREETS), "val": dict(STREETS)}}
    inner, parts = values, name.split(".")
    for part in parts[:-1]:
        inner = inner.setdefault(part, {})
    inner[parts[-1]] = value
    return values


def test_plain_values_and_back():
    config = from_dict(
        {
            "data": {
                "train": STREETS | {"seed": 4},
                "val": {"format": "coco", "root": "data/coco", "split": "val2017"},
                "input": {"scale_jitter": [0.5, 2], "crop": [64, 96]},
            },
            "model": {"backbone": {"name": "resnet18", "norm": "gn"}, "things_head": {"anchor_ratios": [1]}},
            "training": {"precision": "bf16-mixed", "max_minutes": 3},
        }
    )
    assert config.data.train.seed == 4
    assert config.data.val.split == "val2017"
    assert config.data.input.scale_jitter == (0.5, 2.0)
    assert config.model.things_head.anchor_ratios == [1.0]
    assert config.training.max_minutes == 3.0
    assert config.optimizer.momentum == 0.9  # not given: the default
    assert from_dict(to_dict(config)) == config
    # the way through a file, as a run folder keeps it
    assert from_dict(yaml.safe_load(yaml.safe_dump(to_dict(config)))) == config


def test_nothing_is_shared_between_two_configs():
    first, second = from_dict(config_with("training.steps", 5)), from_dict(config_with("training.steps", 5))
    first.model.things_head.anchor_sizes.append(1024)
    assert second.model.things_head.anchor_sizes == [32, 64, 128, 256, 512]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_file_in_configs_is_valid(path: Path):
    config = from_dict(yaml.safe_load(path.read_text()))
    assert from_dict(to_dict(config)) == config


def test_there_are_files_in_configs():
    assert CONFIGS


@pytest.mark.parametrize("name", ["training.step", "data.train.num_imags", "modle", "model.backbone.depth"])
def test_an_unknown_key_is_named(name: str):
    with pytest.raises(InputError, match=name.rsplit(".")[-1]):
        from_dict(config_with(name, 1))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("training.steps", "many"),
        ("training.steps", 1.5),
        ("optimizer.lr", "fast"),
        ("optimizer.name", "adam"),
        ("model.backbone.weights", "imagnet"),
        ("model.backbone.added_stages", "perhaps"),
        ("model.things_head.anchor_sizes", "32"),
        ("data.input.scale_jitter", [1.0]),
        ("data.train.format", "ade20k"),
        ("data.val.version", "v3.0"),
        ("data.val.form", "labels"),
    ],
)
def test_a_value_of_the_wrong_type_is_named(name: str, value: object):
    with pytest.raises(InputError, match=name):
        from_dict(config_with(name, value))


@pytest.mark.parametrize("name", ["training.steps", "training.precision", "data.train.root", "data.val", "loss"])
def test_an_empty_value_is_named(name: str):
    """In YAML, a name without a value: a section whose lines are all commented out, for instance."""
    with pytest.raises(InputError, match=f"^{name} is empty; give it a value, or leave it out"):
        from_dict(config_with(name, None))


@pytest.mark.parametrize(("name", "value"), [("data.val", 3), ("model", [1]), ("model.backbone", "resnet18")])
def test_a_value_in_place_of_a_group_is_named(name: str, value: object):
    with pytest.raises(InputError, match=f"^{name} is .*; it is a group of settings"):
        from_dict(config_with(name, value))


IMPOSSIBLE = [
    ("data.batch_size", 0),
    ("data.workers", -1),
    ("data.train.num_images", 0),
    ("data.val.num_images", -4),
    ("data.train.seed", -1),
    ("data.val.first", -1),
    ("data.train.format", "coco"),
    ("data.val.format", "vistas"),
    ("data.input.short_side", -1),
    ("data.input.max_long_side", 0),
    ("data.input.load_short_side", -1),
    ("data.input.scale_jitter", [0.0, 1.0]),
    ("data.input.scale_jitter", [2.0, 1.0]),
    ("data.input.crop", [64]),
    ("data.input.crop", [64, 16]),
    ("data.input.flip", 1.5),
    ("data.input.multi_scale", [256, 0]),
    ("data.input.crop_on_things", 1.5),
    ("data.input.copy_paste", -0.5),
    ("data.repeat_threshold", 2),
    ("data.input.color_jitter", -0.1),
    ("model.pyramid_channels", 0),
    ("model.backbone.added_channels", 7),
    ("model.backbone.widths", [64, 128, 256]),
    ("model.backbone.widths", [64, 0, 256, 512]),
    ("model.stuff_head.channels", 1),
    ("model.things_head.anchor_sizes", []),
    ("model.things_head.anchor_sizes", [8, 16, 32, 64, 128, 256, 512]),
    ("model.things_head.anchor_sizes", [0, 16]),
    ("model.things_head.anchor_ratios", []),
    ("model.things_head.anchor_ratios", [-1.0]),
    ("model.things_head.rpn_samples", 0),
    ("model.things_head.rpn_convs", 0),
    ("model.things_head.pre_nms", 0),
    ("model.things_head.post_nms", 0),
    ("model.things_head.roi_samples", 0),
    ("model.things_head.box_channels", 0),
    ("model.things_head.box_convs", -1),
    ("model.things_head.unused_classes", -1),
    ("model.things_head.mask_channels", 0),
    ("model.things_head.mask_convs", 0),
    ("model.things_head.max_detections", 0),
    ("model.things_head.sampling_ratio", -1),
    ("model.things_head.score_threshold", 1.1),
    ("model.things_head.nms_iou", -0.1),
    ("fusion.score_threshold", 7),
    ("fusion.overlap_threshold", -0.5),
    ("fusion.mask_threshold", 1.5),
    ("fusion.min_stuff_area", -1),
    ("fusion.min_stuff_share", -0.1),
    ("fusion.min_stuff_share", 1.5),
    ("fusion.veto", -0.1),
    ("loss.stuff", -1),
    ("loss.tasc", float("nan")),
    ("loss.tasc_warmup_steps", -1),
    ("optimizer.lr", 0),
    ("optimizer.lr", float("inf")),
    ("optimizer.lr", float("nan")),
    ("optimizer.momentum", 1.5),
    ("optimizer.weight_decay", -1e-4),
    ("optimizer.backbone_lr_factor", -1),
    ("optimizer.clip_norm", -1),
    ("optimizer.warmup_steps", -1),
    ("optimizer.milestones", [0.5, 89]),
    ("optimizer.poly_power", -1),
    ("optimizer.lr_batch", -1),
    ("optimizer.backbone_layer_decay", 1.1),
    ("training.accumulate", 0),
    ("training.devices", 0),
    ("training.ema_decay", 1.0),
    ("training.keep_last", 0),
    ("training.steps", 0),
    ("training.max_minutes", -1),
    ("training.validate_every", -1),
    ("training.show_images", -1),
    ("training.checkpoint_every", 0),
    ("training.log_every", 0),
    ("training.seed", -1),
]


@pytest.mark.parametrize(("name", "value"), IMPOSSIBLE)
def test_an_impossible_value_is_named(name: str, value: object):
    named = name.removesuffix(".format")
    with pytest.raises(InputError, match=rf"{named}\b.*(it must be|give|say how many)"):
        from_dict(config_with(name, value))


def test_what_cannot_be_skipped_is_named():
    values = config_with("data.on_bad_sample", "skip")
    values["data"]["keep_in_memory"] = True
    with pytest.raises(InputError, match=r"on_bad_sample is skip, but data.keep_in_memory"):
        from_dict(values)


def test_only_the_concatenating_stuff_head_answers_at_stride_2():
    values = config_with("model.stuff_head.stride", 2)
    assert from_dict(values).model.stuff_head.stride == 2
    values["model"]["stuff_head"]["merge"] = "sum"
    with pytest.raises(InputError, match="with merge 'sum' it is 4"):
        from_dict(values)


@pytest.mark.parametrize(("name", "value"), [("compile", True), ("precision", "16-mixed")])
def test_what_a_split_network_cannot_do_is_named(name: str, value: object):
    values = config_with("training.strategy", "fsdp")
    values["training"][name] = value
    with pytest.raises(InputError, match=rf"training.strategy is fsdp, and training.{name} is .* or strategy to ddp\."):
        from_dict(values)
    values["training"]["strategy"] = "ddp"
    from_dict(values)


def test_the_first_difference_of_two_runs():
    first, second = from_dict(config_with("training.steps", 5)), from_dict(config_with("training.steps", 6))
    assert first_difference(first, first) == ""
    assert first_difference(first, second) == "training.steps is 5, there it is 6"
    second = from_dict(config_with("training.resume_if_exists", True))
    second.training.steps = 5
    assert first_difference(first, second) == ""


def number_names(settings: object, prefix: str = "") -> list[str]:
    names = []
    for field in fields(settings):  # type: ignore[arg-type]
        value = getattr(settings, field.name)
        if is_dataclass(value):
            names += number_names(value, f"{prefix}{field.name}.")
        elif not isinstance(value, str | bool):
            names.append(prefix + field.name)
    return names


def test_no_number_is_left_unchecked():
    """A new field of numbers needs a range, and a line in the list above.

    The sizes of streets have their own check, and the stride of the stuff head is one of two.
    """
    checked = {name.replace("data.val.", "data.train.") for name, _ in IMPOSSIBLE}
    unchecked = {name.replace("data.val.", "data.train.") for name in number_names(Config())} - checked
    assert unchecked == {"data.train.height", "data.train.width", "model.stuff_head.stride"}


def test_the_plain_fpn_has_one_level_less():
    values = config_with("model.things_head.anchor_sizes", [8, 16, 32, 64, 128, 256])
    from_dict(values)
    values["model"]["backbone"] = {"added_stages": False}
    with pytest.raises(InputError, match="has 6 sizes; the pyramid has 5 levels, so give 1 to 5"):
        from_dict(values)


def test_check_gives_back_what_it_was_given():
    config = from_dict(config_with("training.steps", 5))
    assert check(config) is config


def test_photos_are_not_loaded_at_another_size_than_the_network_wants_them():
    values = config_with("data.input.load_short_side", 511)
    for short_side in (0, 512):
        values["data"]["input"]["short_side"] = short_side
        with pytest.raises(InputError, match=f"load_short_side is 511, with a short_side of {short_side}: training"):
            from_dict(values)
    for load_short_side in (0, 512):
        values["data"]["input"]["load_short_side"] = load_short_side
        assert from_dict(values).data.input.load_short_side == load_short_side


PHOTOS = {"format": "coco", "root": "data/coco", "split": "train2017"}
IMPOSSIBLE_TOGETHER = [
    ({"input": {"crop_on_things": 0.5}}, "crop_on_things is 0.5, but there is no crop. Give data.input.crop"),
    (
        {"input": {"copy_paste": 0.5}, "train": {"num_images": 1}},
        "copy_paste is 0.5, but data.train.num_images is 1: .* Raise num_images",
    ),
    (
        {"input": {"short_side": 512, "load_short_side": 512, "multi_scale": [400, 640]}},
        "multi_scale goes up to 640, .* load_short_side 512: .* Raise load_short_side",
    ),
    ({"input": {"crop": [512, 513]}}, "at most 256 and 512 pixels: every sample would be padded. Lower crop"),
    ({"input": {"crop": [257, 300]}}, "at most 256 and 512 pixels"),
    ({"input": {"crop": [600, 600], "short_side": 300}}, "at most 300 and 600 pixels"),
    ({"input": {"crop": [64, 601], "multi_scale": [100, 200], "scale_jitter": [1, 1.5]}}, "at most 300 and 600"),
    ({"train": PHOTOS, "input": {"crop": [512, 1501], "max_long_side": 1500}}, "at most 1500 and 1500"),
    (
        {"train": PHOTOS, "input": {"crop": [801, 802], "short_side": 400, "scale_jitter": [0.5, 2]}},
        "at most 800 and 8192",
    ),
]


@pytest.mark.parametrize(("changes", "message"), IMPOSSIBLE_TOGETHER)
def test_an_impossible_combination_is_named(changes: dict[str, Any], message: str) -> None:
    values = {"train": STREETS | changes.get("train", {}), "val": STREETS, "input": changes.get("input", {})}
    with pytest.raises(InputError, match=message):
        from_dict({"data": values})


@pytest.mark.parametrize(
    ("train", "inputs"),
    [
        (STREETS, {"crop": [256, 512], "crop_on_things": 0.5, "copy_paste": 1}),
        (STREETS, {"crop": [300, 600], "short_side": 300}),
        (PHOTOS, {"crop": [1024, 1024], "short_side": 1024, "max_long_side": 1024, "scale_jitter": [0.1, 2]}),
        (PHOTOS, {"crop": [512, 1024], "scale_jitter": [0.5, 2]}),
        (PHOTOS, {"short_side": 512, "load_short_side": 640, "multi_scale": [400, 640]}),
    ],
)
def test_combinations_that_make_sense(train: dict[str, Any], inputs: dict[str, Any]) -> None:
    assert from_dict({"data": {"train": train, "val": STREETS, "input": inputs}}).data.train.format == train["format"]


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({}, "data.val.root and data.val.split"),
        ({"root": "data"}, "data.val.split"),
        ({"split": "val2017"}, "data.val.root"),
    ],
)
def test_coco_needs_a_place_and_a_split(given: dict[str, str], missing: str):
    with pytest.raises(InputError, match=f"data.val has format coco and needs {missing}; give it"):
        check_dataset(DatasetConfig(format="coco", **given), "data.val")
    dataset = DatasetConfig(format="coco", root="data", split="val2017")
    assert check_dataset(dataset, "data.val") is dataset


def test_plain_values_are_a_copy():
    config = from_dict(config_with("training.steps", 5))
    to_dict(config)["training"]["steps"] = 6
    assert config.training.steps == 5
    assert asdict(config) == to_dict(config)


def test_own_data_needs_a_place() -> None:
    with pytest.raises(InputError, match=r"format coco_instances and needs data.val.split; give it"):
        check_dataset(DatasetConfig(format="coco_instances", root="data"), "data.val")
    with pytest.raises(InputError, match=r"format png_pairs and needs data.val.root; give it"):
        check_dataset(DatasetConfig(format="png_pairs", split="val"), "data.val")
    dataset = DatasetConfig(format="png_pairs", root="data")
    assert check_dataset(dataset, "data.val") is dataset


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data:\n  trian: {}\n", "data.trian is not a setting; known are train, val"),
        ("modle: {}\n", "modle is not a setting"),
        ("training: {steps: }\n", "training.steps is empty"),
        ("- 1\n", "holds no settings"),
        ("output: runs/mine\ntraining: {steps: 5}\n", None),
    ],
)
def test_names_in_a_file(tmp_path: Path, text: str, message: str | None) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    if message is None:
        read_settings(path)
    else:
        with pytest.raises(InputError, match=f"run.yaml.*{message}"):
            read_settings(path)


@pytest.mark.parametrize(
    ("group", "name", "value", "wanted"),
    [
        ("training", "seed", 2**64, "at most 9,223,372,036,854,775,807"),
        ("training", "seed", 2**63, "at most 9,223,372,036,854,775,807"),
        ("training", "steps", 10**400, "at most 2,147,483,647"),
        ("optimizer", "lr", float("inf"), "a finite number"),
        ("optimizer", "poly_power", float("nan"), "a finite number"),
    ],
)
def test_numbers_that_no_library_counts_with(group: str, name: str, value: float, wanted: str) -> None:
    values = to_dict(_valid())
    values[group][name] = value
    with pytest.raises(InputError, match=rf"{group}\.{name} is .*; it must be {wanted}"):
        from_dict(values)
    values[group][name] = 2**63 - 1 if name == "seed" else 1
    from_dict(values)


def test_a_billion_layers_or_a_million_entries() -> None:
    values = to_dict(_valid())
    values["model"]["things_head"]["mask_convs"] = 10**9
    with pytest.raises(InputError, match=r"mask_convs is 1000000000; it must be at most 100"):
        from_dict(values)
    values = to_dict(_valid())
    values["model"]["things_head"]["anchor_ratios"] = [1.0] * 5000
    with pytest.raises(InputError, match=r"anchor_ratios has 5,000 entries; it must have at most 1,000"):
        from_dict(values)


def test_values_are_never_quoted_whole() -> None:
    for wrong in ("x" * 10**5, ["y"] * 10**4, {f"{number}": 1 for number in range(1000)}):
        for values in ({"data": wrong}, {"model": {"pyramid_channels": wrong}}, {"data": {"input": {"crop": wrong}}}):
            with pytest.raises(InputError) as found:
                from_dict(values)
            assert len(str(found.value)) < 1000


def _valid() -> Config:
    config = Config()
    config.data.train.num_images = config.data.val.num_images = 1
    return config


TEXTS = ["data.train.split", "data.val.root", "model.backbone.name", "training.init", "data.train.group_by"]


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("2017", "a number"),
        ("1.5", "a number"),
        ("1:30", "a number"),  # base 60
        ("on", "true or false"),
        ("No", "true or false"),
        ("2024-05-05", "a date"),
        ("2024-05-05 10:00:00", "a date"),
        ("[a]", "a list"),
        ("{a: 1}", "a group"),
    ],
)
def test_what_yaml_does_not_read_as_text(name: str, written: str, kind: str, tmp_path: Path):
    """A split called 2017, a folder called on: YAML makes a number or a truth value of them."""
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(config_with(name, "HERE")).replace("HERE", written))
    last = name.rpartition(".")[2]
    for read in (read_settings, lambda path: from_dict(yaml.safe_load(path.read_text()))):
        with pytest.raises(InputError, match=f'{name} is .* YAML reads as {kind}; .*in quotes, as {last}: "2017"'):
            read(path)
    path.write_text(yaml.safe_dump(config_with(name, "HERE")).replace("HERE", f'"{written}"'))
    read_settings(path)


def test_a_share_of_stuff_takes_the_place_of_the_pixels_of_a_run():
    of_run = FusionOptions(min_stuff_area=4096, veto=0.5)
    assert change_fusion(of_run, {"min_stuff_share": 0.02}) == FusionOptions(min_stuff_share=0.02, veto=0.5)
    both = {"min_stuff_share": 0.02, "min_stuff_area": 9}
    assert change_fusion(of_run, both) == FusionOptions(min_stuff_share=0.02, min_stuff_area=9, veto=0.5)
    assert change_fusion(of_run, {"veto": 0.0}) == FusionOptions(min_stuff_area=4096, veto=0.0)


def test_removed_settings_of_an_earlier_run_open_with_the_value_that_holds_for_all():
    values = config_with("loss.tasc_distance", "squared")
    kept = deepcopy(values)
    assert from_dict(values) == from_dict(config_with("training.steps", Config().training.steps))
    assert values == kept
    with pytest.raises(InputError, match=r"^loss\.tasc_distance is 'divergence'; .*removed, and 'squared' holds"):
        from_dict(config_with("loss.tasc_distance", "divergence"))


@pytest.mark.parametrize(("name", "value"), [("tasc_normalization", "band"), ("tasc_gradient", "stuff")])
def test_removed_readings_of_the_consistency_loss_are_refused(name: str, value: str):
    with pytest.raises(InputError, match=rf"(?s)loss\.{name}.*{value}"):
        from_dict(config_with(f"loss.{name}", value))


DETECTRON2S = {
    "model.stuff_head.label_at": "centre",
    "model.things_head.rounded_anchors": False,
    "model.things_head.aligned_rois": True,
    "fusion.via_input": True,
    "data.input.resize_with": "pillow",
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model.stuff_head.label_at": "pixel", "fusion.via_input": False}, "tascnet"),
        (DETECTRON2S, "detectron2"),
        ({"model.things_head.rounded_anchors": True, "model.things_head.aligned_rois": False}, "torchvision"),
    ],
)
def test_single_settings_of_an_earlier_run_become_its_conventions(changes: dict[str, object], expected: str):
    values = config_with("training.steps", 5)
    for name, value in changes.items():
        group = values
        for part in name.split(".")[:-1]:
            group = group.setdefault(part, {})
        group[name.split(".")[-1]] = value
    kept = deepcopy(values)
    config = from_dict(values)
    assert values == kept
    assert config == replace(
        from_dict(config_with("training.steps", 5)), model=replace(config.model, conventions=expected)
    )


def test_single_settings_that_no_conventions_hold_together_are_refused():
    values = config_with("fusion.via_input", True)
    values["model"] = {"things_head": {"aligned_rois": False}}
    with pytest.raises(InputError, match=r"aligned_rois False, fusion.via_input True are single .*model\.conventions"):
        from_dict(values)


@pytest.mark.parametrize(
    "name",
    [
        "model.pyramid_channels",
        "model.backbone.added_channels",
        "model.stuff_head.channels",
        "model.things_head.box_channels",
        "model.things_head.mask_channels",
    ],
)
def test_channels_beyond_any_network_are_named(name: str):
    from_dict(config_with(name, 65536))
    for value in (65537, 10**9):
        with pytest.raises(InputError, match=rf"^{name} is {value}; it must be at most 65,536"):
            from_dict(config_with(name, value))
