"""The samples of a training, as the settings ask for them. Three streets in files; some categories are not in all."""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cityscapes_layout import write_cityscapes_layout

from tascnet.build import build_dataset, build_stream
from tascnet.config import Config, DataConfig, DatasetConfig, InputConfig
from tascnet.data.rare import categories_of_images, repeat_factors
from tascnet.data.stream import TrainingStream
from tascnet.errors import InputError
from tascnet.training import train


def data_of(root: Path, **settings: Any) -> DataConfig:
    return DataConfig(train=DatasetConfig(format="coco", root=str(root), split="mini"), **settings)


def open_stream(data: DataConfig, num_samples: int) -> TrainingStream:
    return build_stream(data, build_dataset(data.train), num_samples, 3)


def test_images_with_rare_categories_come_more_often(tiny_coco: Path) -> None:
    data = data_of(tiny_coco, repeat_threshold=1.0)
    categories = categories_of_images(build_dataset(data.train))
    factors = repeat_factors(categories, 1.0)
    assert factors.min() < factors.max()
    epoch = math.ceil(factors.sum())
    stream = open_stream(data, 40 * epoch)
    counts = Counter(stream[position].image_id for position in range(40 * epoch))
    ids = [build_dataset(data.train)[index].image_id for index in range(3)]
    expected = factors * epoch / factors.sum()
    assert [counts[i] / 40 for i in ids] == pytest.approx(expected, abs=0.25)  # three deviations of a coin's mean


def test_what_is_held_in_memory_is_the_same(tiny_coco: Path) -> None:
    settings = InputConfig(copy_paste=1.0, crop=[48, 96], crop_on_things=0.5, scale_jitter=(0.5, 2))
    from_files = open_stream(data_of(tiny_coco, input=settings), 6)
    from_memory = open_stream(data_of(tiny_coco, input=settings, keep_in_memory=True), 6)
    for position in range(6):
        one, other = from_files[position], from_memory[position]
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.segmentation.id_map, other.segmentation.id_map)


def test_pasting_is_what_was_asked_for(tiny_coco: Path) -> None:
    without, always = (open_stream(data_of(tiny_coco, input=InputConfig(copy_paste=share)), 6) for share in (0.0, 1.0))
    numbers = [[len(stream[position].segmentation.segments) for position in range(6)] for stream in (without, always)]
    more = [after - before for before, after in zip(*numbers, strict=True)]
    assert max(more) > 0


def test_a_broken_annotation_is_named_while_categories_are_counted(tmp_path: Path) -> None:
    write_cityscapes_layout(tmp_path)
    next(iter(tmp_path.glob("gtFine/train/ulm/*"))).write_bytes(b"no picture")
    data = DataConfig(DatasetConfig("cityscapes", str(tmp_path), "train"), repeat_threshold=0.5)
    with pytest.raises(InputError, match=r"instanceIds\.png is not a picture"):
        open_stream(data, 4)


def test_a_training_with_everything_on(tiny_config: Callable[[], Config], tmp_path: Path) -> None:
    config = tiny_config()
    config.data.input = InputConfig(
        multi_scale=[64, 80],
        scale_jitter=(0.1, 2),
        crop=[64, 96],
        crop_on_things=0.5,
        copy_paste=0.5,
        color_jitter=0.2,
    )
    config.data.repeat_threshold, config.data.workers, config.training.steps = 0.9, 2, 3
    report = train(config, tmp_path / "run", "tascnet train")
    assert report.num_images == 2
