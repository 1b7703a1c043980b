"""Stuff head: against classifying the concatenation, and a cross entropy worked out by hand."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own abbreviation
from torch import Tensor

from tascnet.errors import InputError
from tascnet.model.stuff_head import StuffHead, SummedStuffHead, semantic_labels, stuff_loss
from tascnet.structures import IGNORE

SIZES = [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]


def pyramid() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 6, *size, generator=generator) for size in SIZES]


def head(num_outputs: int = 4) -> StuffHead:
    torch.manual_seed(2)
    return StuffHead(num_levels=6, in_channels=6, channels=8, num_outputs=num_outputs)


def placed(features: Tensor, doublings: int) -> Tensor:
    """At the cells of the finest level, by hand: cell i of a level covers the cells 2**doublings i and following."""
    centres = [(torch.arange(length) + 0.5) / 2**doublings - 0.5 for length in SIZES[0]]
    for axis, positions in zip((-2, -1), centres, strict=True):
        last = features.shape[axis] - 1
        positions = positions.clamp(0, last)
        low, high = positions.floor().long(), positions.ceil().long()
        weight = (positions - low).unsqueeze(-1) if axis == -2 else positions - low
        features = features.index_select(axis, low) * (1 - weight) + features.index_select(axis, high) * weight
    return features


def test_equals_classifying_the_concatenated_levels_each_in_its_place() -> None:
    # the last cells of the coarsest levels reach beyond the 16 x 24 cells: 32 high, 32 wide
    stuff_head = head()
    upsampled = [
        placed(layers(features), doublings)
        for doublings, (layers, features) in enumerate(zip(stuff_head.levels, pyramid(), strict=True))
    ]
    logits = stuff_head(pyramid())
    assert logits.shape == (2, 4, 16, 24)
    assert logits.std() > 0.1  # not all alike, or the comparison would say little
    assert torch.allclose(logits, stuff_head.classifier(torch.cat(upsampled, dim=1)), atol=1e-5)


def test_each_level_has_two_convolutions_with_norm_and_activation() -> None:
    for layers, features in zip(head().levels, pyramid(), strict=True):
        expected = features
        for convolution, norm in ((layers[0], layers[1]), (layers[3], layers[4])):
            expected = F.conv2d(expected, convolution.weight, padding=1)
            expected = F.group_norm(expected, norm.num_groups, norm.weight, norm.bias).relu()
        assert torch.allclose(layers(features), expected, atol=1e-5)


def test_every_parameter_is_used() -> None:
    stuff_head = head()
    stuff_head(pyramid()).square().sum().backward()
    for name, parameter in stuff_head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_labels_are_read_at_the_pixel_centres_of_the_stride() -> None:
    semantic = torch.arange(8 * 12).view(1, 8, 12)
    # centres of 4 x 4 blocks lie between pixels 1 and 2: rows 2, 6; columns 2, 6, 10
    assert semantic_labels(semantic, num_outputs=1000, stride=4).tolist() == [[[26, 30, 34], [74, 78, 82]]]


@pytest.mark.parametrize(
    ("num_outputs", "expected"),
    [(3, [IGNORE, 0, 1, 2, 2, 2]), (5, [IGNORE, 0, 1, 2, 3, 4])],  # K_st + 1 and K, of 2 stuff and 3 things
)
def test_things_become_the_last_channel_where_there_is_one_for_all(num_outputs: int, expected: list[int]) -> None:
    semantic = torch.tensor([[[IGNORE, 0, 1, 2, 3, 4]]])
    assert semantic_labels(semantic, num_outputs, stride=1).tolist() == [[expected]]


def test_loss_worked_out_by_hand() -> None:
    # three pixels, two stuff channels and things; the third pixel is VOID, the second is thing category 3 of 5
    logits = torch.tensor([[0.0, math.log(2), 9.0], [0.0, 0.0, 9.0], [0.0, math.log(5), -9.0]]).view(1, 3, 1, 3)
    semantic = torch.tensor([[[0, 4, IGNORE]]])
    # softmax of the first is a third each; of the second 2/8, 1/8, 5/8
    expected = (math.log(3) + math.log(8 / 5)) / 2
    assert stuff_loss(logits, semantic, stride=1, ignore=IGNORE).item() == pytest.approx(expected)


def test_loss_averages_over_pixels_not_over_images() -> None:
    logits = torch.zeros(2, 3, 1, 2)
    logits[0, :, 0, 0] = torch.tensor([0.0, math.log(2), math.log(5)])
    semantic = torch.tensor([[[0, IGNORE]], [[1, 2]]])
    expected = (math.log(8) + 2 * math.log(3)) / 3
    assert stuff_loss(logits, semantic, stride=1, ignore=IGNORE).item() == pytest.approx(expected)


def test_loss_reads_the_annotation_at_stride_4() -> None:
    logits = torch.zeros(1, 2, 1, 2)
    logits[0, 0] = math.log(3)  # 3/4 for channel 0
    semantic = torch.ones(1, 4, 8, dtype=torch.int64)
    semantic[0, 2, 2] = 0  # the one pixel that is read on the left
    expected = (math.log(4 / 3) + math.log(4)) / 2
    assert stuff_loss(logits, semantic, stride=4, ignore=IGNORE).item() == pytest.approx(expected)


def test_loss_of_void_is_zero_and_in_the_graph() -> None:
    logits = torch.randn(1, 3, 2, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = stuff_loss(logits, torch.full((1, 8, 8), IGNORE), stride=4, ignore=IGNORE)
    assert loss.item() == 0
    loss.backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_summed_levels_against_torchs_layers_one_by_one() -> None:
    """P2 and P3 pass one convolution, P4 two, P5 three, each but P2's followed by a doubling; P6 is not read."""
    torch.manual_seed(2)
    stuff_head = SummedStuffHead(in_channels=6, channels=32, num_outputs=4)
    generator = torch.Generator().manual_seed(1)
    levels = [torch.randn(2, 6, 32 >> level, 48 >> level, generator=generator) for level in range(5)]
    total = torch.zeros(())
    for level, features in enumerate(levels[:4]):
        for step in range(max(level, 1)):
            convolution, norm, _ = stuff_head.levels[level][step * 2]
            features = F.conv2d(features, convolution.weight, padding=1)
            features = F.relu(F.group_norm(features, 32, norm.weight, norm.bias))
            if level:
                features = F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
        total = total + features
    wanted = F.conv2d(total, stuff_head.classifier.weight, stuff_head.classifier.bias)
    torch.testing.assert_close(stuff_head(levels), wanted)


def test_summed_levels_of_an_image_that_is_one_position_of_p5() -> None:
    """As a photo of 1 x 7 pixels is; a group of one value has variance 0 and leaves the bias."""
    torch.manual_seed(3)
    module = SummedStuffHead(in_channels=6, channels=32, num_outputs=3)
    levels = [torch.randn(1, 6, side, side) for side in (8, 4, 2, 1)]
    assert module(levels).isfinite().all()
    norm = module.levels[3][0][1]
    torch.nn.init.normal_(norm.bias)
    torch.testing.assert_close(norm(torch.randn(1, 32, 1, 1)).flatten(), norm.bias, rtol=0, atol=1e-3)
    plane = torch.randn(2, 32, 3, 5)
    assert torch.equal(norm(plane), torch.nn.GroupNorm.forward(norm, plane))


def test_summed_levels_need_channels_for_their_groups() -> None:
    with pytest.raises(InputError, match=r"model\.stuff_head\.channels is 48; .*a multiple of 32"):
        SummedStuffHead(in_channels=6, channels=48, num_outputs=4)


def test_at_stride_2_it_starts_as_the_interpolation_and_learns_what_each_pixel_adds() -> None:
    torch.manual_seed(2)
    fine = StuffHead(num_levels=6, in_channels=6, channels=8, num_outputs=4, stride=2)
    coarse = head()
    coarse.load_state_dict({name: value for name, value in fine.state_dict().items() if not name.startswith("detail")})
    interpolated = F.interpolate(coarse(pyramid()), scale_factor=2, mode="bilinear", align_corners=False)
    assert torch.allclose(fine(pyramid()), interpolated, atol=1e-5)
    # output channel 1, the lower left pixel of each cell: planes 4 to 7 of the detail are its four pixels, by rows
    fine.detail.bias.data[4 + 2] = 10.0
    added = fine(pyramid()) - interpolated
    expected = torch.zeros(2, 4, 32, 48)
    expected[:, 1, 1::2, 0::2] = 10.0
    assert torch.allclose(added, expected, atol=1e-4)


def test_other_strides_are_refused() -> None:
    with pytest.raises(ValueError, match="is 3; it must be 2 or 4"):
        StuffHead(num_levels=6, in_channels=6, channels=8, num_outputs=4, stride=3)
