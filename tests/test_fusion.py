"""Fusion: worlds of 4 x 6 pixels worked out by hand, and a naive reference of full planes on random input."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.ops import roi_align

from tascnet import fusion
from tascnet.config import FusionOptions
from tascnet.data.batch import make_target
from tascnet.data.formats.coco import CocoPanoptic
from tascnet.data.merged import group_categories
from tascnet.errors import InputError
from tascnet.fusion import Dropped, rescored, semantic_from_stuff
from tascnet.metrics.panoptic_quality import PanopticQuality
from tascnet.structures import IGNORE, Category, Instances, LabelSpace, PanopticSegmentation, Size

# out of order on purpose: semantic indices are sky 0, road 1, person 2, car 3
SPACE = LabelSpace(
    (Category(11, "person", True), Category(7, "sky", False), Category(20, "car", True), Category(3, "road", False))
)
PERSON, CAR = 0, 1
SIZE = Size(4, 6)
SMALL = FusionOptions(min_stuff_area=0)
Fuse = Callable[..., PanopticSegmentation]
WORLD = """
    ssssss
    sttttr
    sttttr
    rrrrrr
"""


def fuse_jointly(*inputs: Any) -> PanopticSegmentation:
    return fusion.fuse_jointly(*inputs).segmentation


def fuse_mask_guided(*inputs: Any) -> PanopticSegmentation:
    return fusion.fuse_mask_guided(*inputs).segmentation


def fuse_unguided(*inputs: Any) -> PanopticSegmentation:
    return fusion.fuse_unguided(*inputs).segmentation


def stuff_logits(world: str, channels: str = "srt") -> Tensor:
    """(C, 4, 6) logits: the drawn channel is best, road is second best."""
    rows = world.split()
    logits = torch.zeros(len(channels), len(rows), len(rows[0]))
    logits[1] = 1
    for i, row in enumerate(rows):
        for j, channel in enumerate(row):
            logits[channels.index(channel), i, j] = 5
    return logits


def instances(*items: tuple[list[float], int, float]) -> Instances:
    """Instances that fill their boxes, of (box, label, score)."""
    return Instances(
        boxes=torch.tensor([box for box, _, _ in items], dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor([label for _, label, _ in items], dtype=torch.int64),
        scores=torch.tensor([score for _, _, score in items], dtype=torch.float32),
        masks=torch.ones(len(items), 12, 12),
    )


def id_rows(segmentation: PanopticSegmentation) -> list[str]:
    return ["".join(map(str, row)) for row in segmentation.id_map.tolist()]


def categories(segmentation: PanopticSegmentation) -> list[int]:
    return [segment.category_id for segment in segmentation.segments]


def test_guided_instances_only_get_pixels_that_both_heads_call_things() -> None:
    car = instances(([0, 1, 4, 3], CAR, 0.9))
    segmentation = fuse_mask_guided(stuff_logits(WORLD), car, SPACE, SIZE, SMALL)
    assert id_rows(segmentation) == ["222222", "211103", "211103", "333333"]
    assert categories(segmentation) == [20, 7, 3]
    assert [segment.area for segment in segmentation.segments] == [6, 8, 8]
    assert [segment.score for segment in segmentation.segments] == [pytest.approx(0.9), None, None]
    segmentation.validate(SPACE)


def test_unguided_instances_get_their_whole_mask() -> None:
    car = instances(([0, 1, 4, 3], CAR, 0.9))
    segmentation = fuse_unguided(stuff_logits(WORLD), car, SPACE, SIZE, SMALL)
    assert id_rows(segmentation) == ["222222", "111103", "111103", "333333"]
    segmentation.validate(SPACE)


@pytest.mark.parametrize("fuse", [fuse_jointly, fuse_mask_guided, fuse_unguided])
def test_unclaimed_things_can_become_the_best_stuff(fuse: Fuse) -> None:
    options = FusionOptions(min_stuff_area=0, unclaimed="stuff")
    segmentation = fuse(stuff_logits(WORLD), instances(([1, 1, 4, 3], CAR, 0.9)), SPACE, SIZE, options)
    assert id_rows(segmentation) == ["222222", "211133", "211133", "333333"]
    assert [segment.area for segment in segmentation.segments] == [6, 8, 10]


def test_guidance_drops_an_instance_that_lies_mostly_on_stuff() -> None:
    # rows 0 to 2, columns 0 and 1: two of six pixels are things for the stuff head
    car = instances(([0, 0, 2, 3], CAR, 0.9))
    guided = fuse_mask_guided(stuff_logits(WORLD), car, SPACE, SIZE, SMALL)
    assert id_rows(guided) == ["111111", "100002", "100002", "222222"]
    assert categories(guided) == [7, 3]
    unguided = fuse_unguided(stuff_logits(WORLD), car, SPACE, SIZE, SMALL)
    assert id_rows(unguided) == ["112222", "110003", "110003", "333333"]


def test_exactly_the_threshold_is_kept() -> None:
    half = instances(([0, 1, 2, 3], CAR, 0.9))  # two of four pixels
    assert categories(fuse_mask_guided(stuff_logits(WORLD), half, SPACE, SIZE, SMALL))[0] == 20
    more = FusionOptions(min_stuff_area=0, overlap_threshold=0.51)
    assert 20 not in categories(fuse_mask_guided(stuff_logits(WORLD), half, SPACE, SIZE, more))


@pytest.mark.parametrize("fuse", [fuse_jointly, fuse_mask_guided, fuse_unguided])
def test_the_better_score_takes_the_overlap(fuse: Fuse) -> None:
    # given in the wrong order: the person of .9 takes columns 3 and 4 first, the car keeps 1 and 2
    both = instances(([1, 1, 4, 3], CAR, 0.6), ([3, 1, 5, 3], PERSON, 0.9))
    segmentation = fuse(stuff_logits(WORLD), both, SPACE, SIZE, SMALL)
    assert id_rows(segmentation) == ["333333", "322114", "322114", "444444"]
    assert categories(segmentation) == [11, 20, 7, 3]


@pytest.mark.parametrize("fuse", [fuse_jointly, fuse_mask_guided, fuse_unguided])
def test_an_instance_that_is_mostly_covered_is_dropped(fuse: Fuse) -> None:
    both = instances(([1, 1, 4, 3], CAR, 0.9), ([2, 1, 5, 3], PERSON, 0.8))  # one of its three columns is free
    segmentation = fuse(stuff_logits(WORLD), both, SPACE, SIZE, SMALL)
    assert id_rows(segmentation) == ["222222", "211103", "211103", "333333"]


@pytest.mark.parametrize("fuse", [fuse_jointly, fuse_mask_guided, fuse_unguided])
def test_of_identical_boxes_one_remains(fuse: Fuse) -> None:
    options = FusionOptions(min_stuff_area=0, overlap_threshold=0)  # even then: a segment without pixels is none
    same = instances(([1, 1, 5, 3], CAR, 0.8), ([1, 1, 5, 3], PERSON, 0.8))
    segmentation = fuse(stuff_logits(WORLD), same, SPACE, SIZE, options)
    assert categories(segmentation) == [20, 7, 3]
    segmentation.validate(SPACE)


@pytest.mark.parametrize("fuse", [fuse_mask_guided, fuse_unguided])
def test_low_scores_are_dropped(fuse: Fuse) -> None:
    items = instances(([1, 1, 3, 3], CAR, 0.5), ([3, 1, 5, 3], PERSON, 0.49))
    assert categories(fuse(stuff_logits(WORLD), items, SPACE, SIZE, SMALL)) == [20, 7, 3]


@pytest.mark.parametrize("fuse", [fuse_jointly, fuse_mask_guided, fuse_unguided])
def test_small_stuff_becomes_void(fuse: Fuse) -> None:
    world = "ssssss ssssss srrrrr rrrrrr"
    segmentation = fuse(stuff_logits(world), instances(), SPACE, SIZE, FusionOptions(min_stuff_area=12))
    assert id_rows(segmentation) == ["111111", "111111", "100000", "000000"]  # sky 13, road 11
    assert categories(segmentation) == [7]


def test_stuff_area_is_counted_after_instances() -> None:
    # road has 8 pixels, the un-guided car takes five of them
    car = instances(([3, 1, 6, 4], CAR, 0.9))
    for least, expected in ((3, [20, 7, 3]), (4, [20, 7])):
        options = FusionOptions(min_stuff_area=least)
        assert categories(fuse_unguided(stuff_logits(WORLD), car, SPACE, SIZE, options)) == expected


@pytest.mark.parametrize("fuse", [fuse_jointly, fuse_mask_guided, fuse_unguided])
@pytest.mark.parametrize("size", [Size(4, 6), Size(8, 12), Size(40, 60), Size(5, 7)])
def test_small_stuff_is_a_share_of_the_image_by_default(fuse: Fuse, size: Size) -> None:
    world = "ssssss ssssss ssssss srssss"  # road is one of 24 cells
    assert categories(fuse(stuff_logits(world), instances(), SPACE, size, FusionOptions(min_stuff_share=0.1))) == [7]
    assert 3 in categories(fuse(stuff_logits(world), instances(), SPACE, size, FusionOptions(min_stuff_share=0.02)))
    everything = FusionOptions(min_stuff_share=0.1, min_stuff_area=1)  # pixels take the place of the share
    assert 3 in categories(fuse(stuff_logits(world), instances(), SPACE, size, everything))


@pytest.mark.parametrize("fuse", [fusion.fuse_jointly, fusion.fuse_mask_guided, fusion.fuse_unguided])
def test_dropped_candidates_are_counted(fuse: Callable[..., fusion.Fused]) -> None:
    items = instances(
        ([1, 1, 4, 3], CAR, 0.9),
        ([1, 1, 4, 3], PERSON, 0.8),  # covered by the car
        ([1, 1, 3, 3], PERSON, 0.01),  # below the threshold of scores, joint ones too
        ([4, 1, 5, 3], CAR, 0.02),
    )
    fused = fuse(stuff_logits(WORLD), items, SPACE, SIZE, FusionOptions(min_stuff_area=9))
    assert fused.dropped == Dropped(low_score=2, overlap=1, small_stuff=2)  # sky and road have 8 pixels each
    assert categories(fused.segmentation) == [20]


@pytest.mark.parametrize("fuse", [fuse_jointly, fuse_mask_guided, fuse_unguided])
def test_channels_of_all_categories(fuse: Fuse) -> None:
    world = "ssssss spccpr spccpr rrrrrr"
    person = instances(([1, 1, 4, 3], PERSON, 0.9))  # the category of an instance is its own, not the stuff head's
    segmentation = fuse(stuff_logits(world, "srpc"), person, SPACE, SIZE, SMALL)
    assert id_rows(segmentation) == ["222222", "211103", "211103", "333333"]
    assert categories(segmentation) == [11, 7, 3]


@pytest.mark.parametrize("fuse", [fuse_jointly, fuse_mask_guided, fuse_unguided])
def test_nothing_at_all_is_void(fuse: Fuse) -> None:
    segmentation = fuse(stuff_logits("tttttt " * 4), instances(), SPACE, SIZE, SMALL)
    assert segmentation.segments == ()
    assert segmentation.id_map.count_nonzero() == 0
    assert segmentation.id_map.dtype == torch.int32


@pytest.mark.parametrize("fuse", [fuse_jointly, fuse_mask_guided, fuse_unguided])
def test_one_pixel(fuse: Fuse) -> None:
    car = instances(([0, 0, 1, 1], CAR, 0.9))
    segmentation = fuse(torch.tensor([0.0, 1, 2]).reshape(3, 1, 1), car, SPACE, Size(1, 1), SMALL)
    assert segmentation.id_map.tolist() == [[1]]
    assert categories(segmentation) == [20]


@pytest.mark.parametrize("fuse", [fuse_jointly, fuse_mask_guided, fuse_unguided])
@pytest.mark.parametrize("unclaimed", ["void", "stuff"])
def test_a_label_space_without_stuff(fuse: Fuse, unclaimed: str) -> None:
    space = LabelSpace((Category(1, "cell", True),))
    options = FusionOptions(min_stuff_area=0, unclaimed=unclaimed)  # type: ignore[arg-type]
    segmentation = fuse(torch.zeros(1, 2, 3), instances(([0, 0, 3, 4], 0, 0.9)), space, SIZE, options)
    assert id_rows(segmentation) == ["111000"] * 4


@pytest.mark.parametrize("fuse", [fuse_jointly, fuse_mask_guided, fuse_unguided])
@pytest.mark.parametrize("box", [[2, 2, 2, 4], [10, 0, 12, 3], [-5, 0, -1, 3], [1.6, 1, 2.4, 3]])
def test_instances_without_pixels_are_dropped(fuse: Fuse, box: list[float]) -> None:
    assert 20 not in categories(fuse(stuff_logits(WORLD), instances((box, CAR, 0.9)), SPACE, SIZE, SMALL))


def test_inputs_are_left_as_they_were() -> None:
    logits, items = stuff_logits(WORLD), instances(([1, 1, 4, 3], CAR, 0.6), ([3, 1, 5, 3], PERSON, 0.9))
    before = [logits.clone(), items.boxes.clone(), items.masks.clone(), items.scores.clone()]
    fuse_mask_guided(logits, items, SPACE, SIZE, FusionOptions(unclaimed="stuff"))
    semantic_from_stuff(logits, items, SPACE, SIZE)
    after = [logits, items.boxes, items.masks, items.scores]
    assert all(torch.equal(first, second) for first, second in zip(before, after, strict=True))


def test_wrong_number_of_channels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"C = 3 .* or 4 .*\(5, 4, 6\)"):
        fuse_mask_guided(torch.zeros(5, 4, 6), instances(), SPACE, SIZE)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("score_threshold", 1.5), ("overlap_threshold", -0.1), ("min_stuff_area", -1), ("unclaimed", "x")],
)
def test_unusable_options_name_themselves(setting: str, value: object) -> None:
    options = FusionOptions(**{setting: value})  # type: ignore[arg-type]
    for fuse in (fuse_jointly, fuse_mask_guided, fuse_unguided):
        with pytest.raises(InputError, match=setting):
            fuse(stuff_logits(WORLD), instances(), SPACE, SIZE, options)


# -- against a naive reference


def random_world(seed: int, channels: int) -> tuple[Tensor, Instances, Size]:
    """Smooth random logits at about a quarter of the size, and instances with blobs for masks."""
    generator = torch.Generator().manual_seed(seed)
    size = Size(37, 53)
    seeds = torch.randn(1, channels, 4, 5, generator=generator) * 4
    logits = functional.interpolate(seeds, size=(10, 14), mode="bicubic")[0]
    logits[-1] += 2  # more things, else guidance leaves nothing
    count = 30
    centres = torch.rand(count, 2, generator=generator) * torch.tensor([53.0, 37.0])
    sides = torch.rand(count, 2, generator=generator) * 24 + 1
    masks = functional.interpolate(
        torch.rand(count, 1, 4, 4, generator=generator) + 0.15, size=(28, 28), mode="bilinear"
    )
    items = Instances(
        boxes=torch.cat([centres - sides / 2, centres + sides / 2], dim=1),
        labels=torch.randint(0, 2, (count,), generator=generator),
        scores=torch.rand(count, generator=generator).sort(descending=True).values,
        masks=masks[:, 0],
    )
    return logits, items, size


def soft_planes(items: Instances, size: Size) -> Tensor:
    """(N, H, W) float64: probabilities of each instance on a plane of its own, 0 outside its box."""
    planes = []
    for mask, box in zip(items.masks.double(), items.boxes.double(), strict=True):
        x = (torch.arange(size.width, dtype=torch.float64) + 0.5 - box[0]) / (box[2] - box[0]) * 2 - 1
        y = (torch.arange(size.height, dtype=torch.float64) + 0.5 - box[1]) / (box[3] - box[1]) * 2 - 1
        grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)[None]
        pasted = functional.grid_sample(mask[None, None], grid, align_corners=False)[0, 0]
        planes.append(pasted * (((y >= -1) & (y < 1))[:, None] & (x >= -1) & (x < 1)))
    return torch.stack(planes)


def fuse_naively(
    logits: Tensor, items: Instances, space: LabelSpace, size: Size, options: FusionOptions, guided: bool
) -> tuple[list[list[tuple[int, float] | int]], int]:
    """Each pixel as ("category id", score) of its instance, category id of its stuff, or 0; and how many instances."""
    full = functional.interpolate(logits[None], size=tuple(size), mode="bilinear")[0]
    num_stuff = len(space.stuff)
    best = full.argmax(0)
    taken = torch.full(size, -1)
    kept = 0
    for k, plane in enumerate(soft_planes(items, size) > 0.5):
        claim = plane & (taken < 0) & ((best >= num_stuff) | (not guided))
        if items.scores[k] < options.score_threshold or not claim.any():
            continue
        if claim.sum() / plane.sum() >= options.overlap_threshold:
            taken[claim] = k
            kept += 1
    stuff = full[:num_stuff].argmax(0)
    if options.unclaimed == "void":
        stuff[best >= num_stuff] = -1
    stuff[taken >= 0] = -1
    for index in range(num_stuff):
        if (stuff == index).sum() < options.min_stuff_area:
            stuff[stuff == index] = -1
    picture: list[list[tuple[int, float] | int]] = []
    for i in range(size.height):
        row: list[tuple[int, float] | int] = []
        for j in range(size.width):
            k, s = int(taken[i, j]), int(stuff[i, j])
            if k >= 0:
                row.append((space.things[int(items.labels[k])].id, float(items.scores[k])))
            else:
                row.append(space.stuff[s].id if s >= 0 else 0)
        picture.append(row)
    return picture, kept


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("unclaimed", ["void", "stuff"])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_naive_reference(guided: bool, channels: int, unclaimed: str, seed: int) -> None:
    logits, items, size = random_world(seed, channels)
    options = FusionOptions(score_threshold=0.2, mask_threshold=0.5, min_stuff_area=150, unclaimed=unclaimed)  # type: ignore[arg-type]
    segmentation = (fuse_mask_guided if guided else fuse_unguided)(logits, items, SPACE, size, options).validate(SPACE)
    expected, kept = fuse_naively(logits, items, SPACE, size, options, guided)
    assert kept >= 3
    value_of: dict[int, tuple[int, float] | int] = {0: 0}
    for segment in segmentation.segments:
        is_instance = segment.score is not None
        value_of[segment.id] = (segment.category_id, segment.score) if is_instance else segment.category_id
    assert [[value_of[i] for i in row] for row in segmentation.id_map.tolist()] == expected
    assert [segment.id for segment in segmentation.segments] == list(range(1, len(segmentation.segments) + 1))


def joint_scores(items: Instances, options: FusionOptions) -> Tensor:
    """(N,) the box's log-odds, moved by five times what the mask's mean probability has above 0.65."""
    scores = []
    for mask, score in zip(items.masks, items.scores, strict=True):
        inside = mask[mask > options.mask_threshold]
        sureness = inside.mean() if len(inside) else torch.tensor(0.0)
        scores.append(torch.sigmoid((score / (1 - score)).log() + 5 * (sureness - 0.65)))
    return torch.stack(scores)


def fuse_jointly_by_pixel(logits: Tensor, items: Instances, scores: Tensor, options: FusionOptions) -> Tensor:
    """(H, W): which instance has each pixel, -1 for none, from planes of probabilities of the image's size."""
    size = Size(37, 53)
    num_stuff = len(SPACE.stuff)
    odds = logits[num_stuff:].exp().sum(0).log() - logits[:num_stuff].exp().sum(0).log()
    odds = functional.interpolate(odds.clamp(-3, 3)[None, None], size=tuple(size), mode="bilinear")[0, 0]
    planes = soft_planes(items, size).clamp(1e-4, 1 - 1e-4)
    evidence = (planes / (1 - planes)).log() + options.veto * odds.clamp(max=0)
    threshold = torch.tensor(options.mask_threshold).logit()
    masks = evidence > threshold
    slivers = set[int]()
    while True:
        owner, strongest = torch.full(size, -1), torch.full(size, -1e9, dtype=torch.float64)
        claimed = []
        for k in scores.argsort(descending=True, stable=True).tolist():
            free = masks[k] & (owner < 0)
            if k in slivers or scores[k] < options.score_threshold or not free.any():
                continue
            if free.sum() / masks[k].sum() >= options.overlap_threshold:
                wins = masks[k] & (evidence[k] > strongest)
                owner[wins], strongest[wins] = k, evidence[k][wins]
                claimed.append(k)
        left = {k for k in claimed if (owner == k).sum() / masks[k].sum() < options.overlap_threshold}
        if not left:
            return owner
        slivers |= left


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("veto", [0.0, 0.25, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_joint_fusion_equals_the_naive_reference(channels: int, veto: float, seed: int) -> None:
    logits, items, size = random_world(seed, channels)
    options = FusionOptions(score_threshold=0.2, mask_threshold=0.4, min_stuff_area=150, veto=veto)
    segmentation = fuse_jointly(logits, items, SPACE, size, options).validate(SPACE)
    scores = joint_scores(items, options)
    owner = fuse_jointly_by_pixel(logits, items, scores, options)
    score_of = {segment.id: segment.score for segment in segmentation.segments}
    found = torch.tensor([[score_of.get(i) or 0 for i in row] for row in segmentation.id_map.tolist()])
    expected = torch.where(owner >= 0, scores[owner.clamp(min=0)], 0)
    assert len(expected.unique()) >= 4
    assert torch.allclose(found, expected, atol=1e-6)
    # what no instance has is filled as in the other procedures
    stuff = segmentation.id_map.clone()
    stuff[owner >= 0] = 0
    full = functional.interpolate(logits[None], size=tuple(size), mode="bilinear")[0].argmax(0)
    for segment in segmentation.segments:
        if segment.score is None:
            index = [category.id for category in SPACE.stuff].index(segment.category_id)
            assert torch.equal(stuff == segment.id, (full == index) & (owner < 0))


def test_the_stuff_head_has_a_veto_and_no_vote() -> None:
    logits, item = stuff_logits(WORLD), instances(([0, 0, 6, 4], CAR, 0.9))
    item.masks.fill_(0.45)
    assert categories(fuse_jointly(logits, item, SPACE, SIZE, SMALL)) == [20, 7, 3]
    assert fuse_jointly(logits, item, SPACE, SIZE, SMALL).segments[0].area == 8  # only where both heads see things
    item.masks.fill_(0.35)  # below the threshold, and the stuff head is sure of things: no vote
    assert categories(fuse_jointly(logits, item, SPACE, SIZE, SMALL)) == [7, 3]
    item.masks.fill_(0.9)  # the mask is surer than the veto is strong
    assert fuse_jointly(logits, item, SPACE, SIZE, SMALL).segments[0].area == 24


def test_a_sure_mask_lifts_a_score_and_an_unsure_one_lowers_it() -> None:
    items = instances(([0, 0, 3, 4], CAR, 0.45), ([3, 0, 6, 4], PERSON, 0.55))
    items.masks[0], items.masks[1] = 0.9, 0.5
    segments = fuse_jointly(stuff_logits(WORLD), items, SPACE, SIZE, SMALL).segments
    assert [(s.category_id, s.score) for s in segments if s.score] == [(20, pytest.approx(0.7406, abs=1e-4))]
    # odds 0.45 / 0.55 times e^1.25 = 2.856; the person's, 0.55 / 0.45 times e^-0.75 = 0.577, are below even


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scores_in_half_precision_stay_apart(dtype: torch.dtype) -> None:
    """Scores near 1 that half precision tells apart only by their masks: the log-odds are those of float32."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(50, 28, 28, generator=generator).to(dtype)
    masks = masks.where(torch.rand(50, 1, 1, generator=generator) < masks, 0)
    scores = torch.ones(50, dtype=dtype)
    boxes, labels = torch.tensor([[0.0, 0, 8, 8]]).repeat(50, 1), torch.zeros(50, dtype=torch.int64)
    found = rescored(Instances(boxes, labels, scores, masks), 0.5).scores
    wanted = rescored(Instances(boxes, labels, scores.double(), masks.double()), 0.5).scores
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=0)
    assert len(found.unique()) > 40


def test_the_surer_mask_takes_the_overlap() -> None:
    items = instances(([0, 0, 4, 4], CAR, 0.9), ([2, 0, 6, 4], PERSON, 0.6))
    items.masks[0], items.masks[1] = 0.7, 0.95
    options = FusionOptions(min_stuff_area=0, veto=0.0)
    areas = [segment.area for segment in fuse_jointly(stuff_logits(WORLD), items, SPACE, SIZE, options).segments]
    assert areas == [8, 16]  # the better score alone would have given 16 and 8


def test_an_instance_that_others_eat_down_to_a_sliver_gives_its_pixels_back() -> None:
    # the person comes first, then loses three of its four columns to the surer mask of the car, which found two free
    items = instances(([0, 0, 4, 4], PERSON, 0.99), ([1, 0, 6, 4], CAR, 0.6))
    items.masks[0], items.masks[1] = 0.6, 0.95
    for overlap_threshold, rows in ((0.2, "122222"), (0.3, "011111")):
        options = FusionOptions(min_stuff_area=0, veto=0.0, overlap_threshold=overlap_threshold)
        segmentation = fuse_jointly(stuff_logits("tttttt " * 4), items, SPACE, SIZE, options).validate(SPACE)
        assert id_rows(segmentation) == [rows] * 4
    # whom the person had displaced comes back: a third instance finds its pixels free again
    third = instances(([0, 0, 4, 4], PERSON, 0.99), ([1, 0, 6, 4], CAR, 0.6), ([0, 0, 1, 4], CAR, 0.55))
    third.masks[0], third.masks[1], third.masks[2] = 0.6, 0.95, 0.9
    options = FusionOptions(min_stuff_area=0, veto=0.0, overlap_threshold=0.3)
    segmentation = fuse_jointly(stuff_logits("tttttt " * 4), third, SPACE, SIZE, options).validate(SPACE)
    assert id_rows(segmentation) == ["211111"] * 4


def test_an_instance_that_loses_all_its_pixels_is_no_segment() -> None:
    items = instances(([0, 0, 2, 4], CAR, 0.9), ([0, 0, 6, 4], PERSON, 0.6))
    items.masks[0], items.masks[1] = 0.7, 0.95
    options = FusionOptions(min_stuff_area=0, veto=0.0)
    segmentation = fuse_jointly(stuff_logits(WORLD), items, SPACE, SIZE, options).validate(SPACE)
    assert [(segment.id, segment.category_id) for segment in segmentation.segments] == [(1, 11)]


# -- semantic segmentation


def test_semantic_of_all_categories_is_the_argmax() -> None:
    semantic = semantic_from_stuff(
        stuff_logits("ssssss spccpr spccpr rrrrrr", "srpc"), instances(([1, 1, 4, 3], PERSON, 0.9)), SPACE, SIZE
    )
    assert semantic.dtype == torch.int64
    assert ["".join(map(str, row)) for row in semantic.tolist()] == ["000000", "023321", "023321", "111111"]


def test_semantic_of_things_is_that_of_the_best_instance_else_the_best_stuff() -> None:
    items = instances(([0, 1, 3, 3], CAR, 0.3), ([2, 1, 4, 3], PERSON, 0.9))  # even a low score tells the category
    semantic = semantic_from_stuff(stuff_logits(WORLD), items, SPACE, SIZE)
    assert ["".join(map(str, row)) for row in semantic.tolist()] == ["000000", "032211", "032211", "111111"]


def test_semantic_without_stuff_leaves_uncovered_pixels_unlabelled() -> None:
    space = LabelSpace((Category(1, "cell", True), Category(2, "dust", True)))
    semantic = semantic_from_stuff(torch.zeros(1, 4, 6), instances(([0, 0, 2, 4], 1, 0.9)), space, SIZE)
    assert semantic.tolist() == [[1, 1, IGNORE, IGNORE, IGNORE, IGNORE]] * 4


# -- annotation passed through the network's own representation and fusion, as if it had been predicted


def as_predicted(segmentation: PanopticSegmentation, space: LabelSpace) -> tuple[Tensor, Instances]:
    """What a perfect network would say: stuff logits at stride 4, masks of 28 x 28."""
    target = make_target(segmentation, space)
    num_stuff, size = len(space.stuff), segmentation.size
    channel = target.semantic.clamp(max=num_stuff)
    channels = functional.one_hot(channel.clamp(min=0), num_stuff + 1) * (channel >= 0)[..., None]
    quarter = (round(size.height / 4), round(size.width / 4))
    logits = functional.interpolate(channels.permute(2, 0, 1)[None].float(), size=quarter, mode="area")[0]
    planes = target.instance_map == torch.arange(1, len(target.labels) + 1)[:, None, None]  # (N, H, W)
    rois = [box[None] for box in target.boxes]
    masks = roi_align(planes[:, None].float(), rois, output_size=28, aligned=True)[:, 0]
    return logits, Instances(target.boxes, target.labels, torch.ones(len(rois)), masks)


@pytest.mark.parametrize("fuse", [fuse_jointly, fuse_mask_guided, fuse_unguided])
def test_annotation_survives_fusion(shared_data: Path, fuse: Fuse) -> None:
    dataset = group_categories(CocoPanoptic.from_layout(shared_data / "coco_mini", "val2017"), "supercategory")
    space = dataset.label_space
    assert len(space.categories) == 27
    quality = PanopticQuality(space)
    for index in range(12):
        annotation = dataset.annotation(index)
        logits, items = as_predicted(annotation, space)
        quality.update(fuse(logits, items, space, annotation.size, SMALL).validate(space), annotation)
    result = quality.compute()
    assert result.all is not None
    assert result.all.pq > 0.95


class _Reads(TorchDispatchMode):
    """Counts what reads numbers of a device back: `item`, `tolist` and results of unknown size."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.number += func._schema.name in {"aten::_local_scalar_dense", "aten::nonzero", "aten::bincount"}
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("fuse", [fuse_jointly, fuse_unguided, fuse_mask_guided])
def test_what_is_read_back_does_not_grow_with_the_instances(fuse: Any, monkeypatch: pytest.MonkeyPatch):
    space = LabelSpace((Category(1, "road", is_thing=False), Category(2, "car", is_thing=True)))
    lists: list[int] = []
    true = Tensor.tolist
    monkeypatch.setattr(Tensor, "tolist", lambda tensor: lists.append(1) or true(tensor))
    numbers = []
    for count in (4, 40, 160):
        left = torch.arange(count) * 6.0
        boxes = torch.stack([left, left * 0 + 2, left + 8, left * 0 + 19], dim=1)  # each overlaps its neighbours
        instances = Instances(boxes, torch.zeros(count).long(), torch.full((count,), 0.9), torch.ones(count, 28, 28))
        lists.clear()
        with _Reads() as reads:
            fused = fuse(torch.stack([torch.zeros(6, 245), torch.ones(6, 245)]), instances, space, Size(24, 980))
        assert len(fused.segments) == count
        numbers.append((reads.number, len(lists)))
    assert numbers[0] == numbers[1] == numbers[2]
    assert 0 < sum(numbers[0]) < 20


def test_rounds_of_claims_are_the_same_whether_crops_are_kept_or_made_again(monkeypatch: pytest.MonkeyPatch):
    space = LabelSpace((Category(1, "road", is_thing=False), Category(2, "car", is_thing=True)))
    generator = torch.Generator().manual_seed(2)
    corners = torch.rand(60, 2, generator=generator) * 60
    boxes = torch.cat([corners, corners + 8 + torch.rand(60, 2, generator=generator) * 30], dim=1)
    scores, masks = torch.rand(60, generator=generator) / 2 + 0.5, torch.rand(60, 1, 1, generator=generator) / 2 + 0.49
    instances = Instances(boxes, torch.zeros(60).long(), scores, masks.expand(60, 28, 28))
    rounds, maps = [], []
    true = fusion._strongest
    monkeypatch.setattr(fusion, "_strongest", lambda *given: rounds.append(1) or true(*given))
    for kept in (2**22, 2000, 0):
        monkeypatch.setattr(fusion, "_PIXELS_KEPT", kept)
        fused = fuse_jointly(torch.randn(2, 25, 25, generator=generator.manual_seed(5)), instances, space, Size(98, 99))
        maps.append(fused.id_map)
    assert len(rounds) >= 6  # some were taken out
    assert maps[0].max() > 3
    assert torch.equal(maps[0], maps[1])
    assert torch.equal(maps[0], maps[2])
