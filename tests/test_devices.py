"""Training, prediction and triage on a pretended accelerator: no mixes, few waits, and kernels on Apple's GPUs."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torchgen
import yaml
from pretended_device import MixedDevicesError, NoDoublePrecisionError, PretendedDevice
from torch import Tensor

from tascnet import fusion
from tascnet.build import build_model, build_optimizer
from tascnet.config import Config
from tascnet.data.batch import Batch, collate
from tascnet.data.streets.dataset import STREETS, Streets
from tascnet.inference.predictor import Predictor
from tascnet.inference.result import Result
from tascnet.model import roi_flatten, tascnet
from tascnet.model.tascnet import TASCNet
from tascnet.structures import Instances, Size
from tascnet.training import total_loss
from tascnet.triage.ranking import measure_doubt

WAITS_PER_STEP, WAITS_PER_TRAINING_IMAGE = 4, 21
"""So often, at most, the host waits for the device in a step of the optimiser, and for each of its images besides.

The very first step, or photo, brings the anchors of five levels to the device as well. Neither number grows with the
number of objects: waits are for the number of anchors or RoIs of a kind, once an image or batch.
"""

WAITS_PER_PHOTO = 48
"""The same for a photo that is predicted; its number of detections does not matter. Fusion reads numbers, and at its
end one map: what it decides by stays on the device."""

HEADS = [("stuff+things", 4), ("all", 2), ("all", 4), ("stuff+things", 2)]
SCENES = Streets(4, Size(72, 130))  # sides that are no multiples of 32


@pytest.fixture
def config(tiny_config: Callable[[], Config]) -> Config:
    config = tiny_config()
    config.model.things_head.score_threshold = 0.001  # a network that has learnt nothing detects something
    config.fusion = replace(config.fusion, score_threshold=0.01, unclaimed="stuff")
    return config


def network(config: Config) -> TASCNet:
    torch.manual_seed(0)
    return build_model(config, STREETS)


def batch_of(scenes: int, device: str) -> Batch:
    return collate([SCENES[index] for index in range(scenes)], STREETS).to(torch.device(device))


def take_step(model: TASCNet, config: Config, batch: Batch) -> Tensor:
    """One step of the optimiser, as `Training` takes it, without what Fabric does."""
    optimizer = build_optimizer(config.optimizer, model)
    losses = model.train()(batch.images, batch.targets, batch.image_sizes, list(range(len(batch))))
    loss = total_loss(losses, 1.0, 1.0)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    return loss


def tensors_of(prediction: Result) -> Iterator[Tensor]:
    kept = prediction.intermediates
    assert kept is not None
    for instances in (prediction.instances, prediction.scored, kept.head_outputs.instances):
        yield from vars(instances).values()
    for plane in (prediction.stuff_logits, prediction.residual):
        yield plane.values
    yield from (prediction.image, prediction.segmentation.id_map, prediction.semantic)
    yield from (kept.best, kept.head_outputs.padded_logits)


def predict(config: Config, model: TASCNet, image: Tensor = SCENES[2].image) -> Result:
    return Predictor(model, STREETS, config.data.input, config.fusion).predict(image)


@pytest.mark.parametrize(
    ("outputs", "stride", "kind"), [(*HEADS[0], "cuda"), (*HEADS[1], "mps"), (*HEADS[2], "mps"), (*HEADS[3], "cuda")]
)
def test_a_training_step_stays_on_the_device(config: Config, kind: str, outputs: Any, stride: Any):
    config.model.stuff_head.outputs, config.model.stuff_head.stride = outputs, stride
    model = network(config)
    before = model.stuff_head.classifier.weight.detach().clone()
    with PretendedDevice(kind) as device:
        model.to(kind)
        assert model.backbone.pixel_mean.device.type == kind
        waits = []
        for scenes in (1, 1, 2):
            batch = batch_of(scenes, kind)
            device.waits.clear()
            loss = take_step(model, config, batch)
            waits.append(device.total)
            assert device.holds(loss)
        assert all(device.holds(parameter) for parameter in model.parameters())
    assert not torch.equal(model.stuff_head.classifier.weight, before)
    assert waits[0] > 10  # they are seen
    for scenes, total in zip((1, 2), waits[1:], strict=True):
        assert total <= WAITS_PER_STEP + scenes * WAITS_PER_TRAINING_IMAGE, device.waits


@pytest.mark.parametrize("method", ["joint", "mask-guided", "unguided"])
@pytest.mark.parametrize(
    ("outputs", "stride", "kind", "via_input"),
    [(*HEADS[0], "cuda", False), (*HEADS[1], "mps", False), (*HEADS[2], "cuda", True), (*HEADS[3], "mps", True)],
)
def test_a_prediction_ends_in_main_memory(
    config: Config, kind: str, outputs: Any, stride: Any, method: Any, via_input: bool
):
    config.model.stuff_head.outputs, config.model.stuff_head.stride = outputs, stride
    config.fusion = replace(config.fusion, method=method)
    config.model.conventions = "detectron2" if via_input else "tascnet"
    model = network(config)
    wanted = predict(config, model)
    with PretendedDevice(kind) as device:
        model.to(kind)
        predict(config, model)
        device.waits.clear()
        found = predict(config, model)
        assert 10 < device.total <= WAITS_PER_PHOTO, device.waits
        assert not any(device.holds(tensor) for tensor in tensors_of(found))
        device.waits.clear()
        doubts = measure_doubt(found, STREETS, 0.01)
        assert not device.waits  # it works on what was predicted, in main memory
    # devices sum RoIAlign in another order: scores differ in the last digit
    both = list(zip(found.segmentation.segments, wanted.segmentation.segments, strict=True))
    assert [replace(ours, score=None) for ours, _ in both] == [replace(theirs, score=None) for _, theirs in both]
    assert [ours.score for ours, _ in both] == pytest.approx([theirs.score for _, theirs in both])
    assert len(found.instances) == len(wanted.instances) > 0
    torch.testing.assert_close(found.stuff_logits.values, wanted.stuff_logits.values)
    assert doubts.residual == pytest.approx(wanted.uncertainty, abs=1e-5)


def test_waits_do_not_grow_with_detections_or_objects(config: Config):
    # joint fusion reads once more for each round in which instances are taken out
    config.fusion = replace(config.fusion, method="joint", overlap_threshold=0)
    config.model.things_head.post_nms = 200
    totals, numbers = [], []
    for most in (2, 20, 100):
        config.model.things_head.max_detections = most
        model = network(config)
        with PretendedDevice("cuda") as device:
            model.to("cuda")
            device.waits.clear()
            prediction = predict(config, model)
            totals.append(device.total)
        numbers.append(len(prediction.instances))
    assert numbers == [2, 20, 100]
    assert len(set(totals)) == 1, totals

    few, many = sorted(range(len(SCENES)), key=lambda index: len(SCENES[index].segmentation.segments))[
        :: len(SCENES) - 1
    ]
    config.model.things_head.roi_samples = 160  # up to 40 of them positive: more than RoI-Flatten takes at once
    totals, objects = [], []
    for scene in (few, many):
        model = network(config)
        with PretendedDevice("cuda") as device:
            model.to("cuda")
            batch = collate([SCENES[scene]], STREETS).to("cuda")
            device.waits.clear()
            take_step(model, config, batch)
            totals.append(device.total)
            objects.append(len(batch.targets[0].boxes))
    assert objects[0] < objects[1]
    assert totals[0] == totals[1]


def test_roi_flatten_waits_once_however_many_instances_there_are():
    for number in (1, 33, 200):
        masks, corners = torch.rand(number, 28, 28), 20 * torch.rand(number, 2)
        with PretendedDevice("cuda") as device:
            on_device = masks.to("cuda"), torch.cat([corners, corners + 9], dim=1).to("cuda")
            device.waits.clear()
            roi_flatten.roi_flatten(*on_device, Size(9, 8))
            assert device.total == 1


class TestPlantedFaults:
    """What the tests above are for."""

    def test_weights_left_in_main_memory(self, config: Config, monkeypatch: pytest.MonkeyPatch):
        true = roi_flatten.interpolation_weights
        monkeypatch.setattr(roi_flatten, "interpolation_weights", lambda *given: true(*given).cpu())
        with PretendedDevice("cuda"), pytest.raises(MixedDevicesError, match=r"model/roi_flatten.py:\d+"):
            take_step(network(config).to("cuda"), config, batch_of(1, "cuda"))

    def test_a_mix_in_the_backward_pass_alone(self, config: Config, monkeypatch: pytest.MonkeyPatch):
        true = roi_flatten._MeanOfPasted.backward

        def backward(ctx: Any, gradient: Tensor) -> Any:
            return true(ctx, gradient.cpu())

        monkeypatch.setattr(roi_flatten._MeanOfPasted, "backward", staticmethod(backward))
        with PretendedDevice("cuda"), pytest.raises(MixedDevicesError, match="aten::div"):
            take_step(network(config).to("cuda"), config, batch_of(1, "cuda"))

    @pytest.mark.parametrize("method", ["joint", "unguided"])
    def test_fusion_of_masks_in_main_memory(self, config: Config, monkeypatch: pytest.MonkeyPatch, method: Any):
        config.fusion = replace(config.fusion, method=method)
        true = Instances.to
        monkeypatch.setattr(Instances, "to", lambda self, device: true(self, "cpu"))
        with PretendedDevice("mps"), pytest.raises(MixedDevicesError, match=r"fusion\.py"):
            predict(config, network(config).to("mps"))

    def test_double_precision(self, config: Config, monkeypatch: pytest.MonkeyPatch):
        true = tascnet.things_probability
        monkeypatch.setattr(tascnet, "things_probability", lambda *given: true(*given).double())
        with PretendedDevice("cuda"):  # which has it
            take_step(network(config).to("cuda"), config, batch_of(1, "cuda"))
        with PretendedDevice("mps"), pytest.raises(NoDoublePrecisionError, match="float64"):
            take_step(network(config).to("mps"), config, batch_of(1, "mps"))

    def test_a_wait_for_each_object(self, config: Config, monkeypatch: pytest.MonkeyPatch):
        true = tascnet.roi_flatten

        def slow(masks: Tensor, *rest: Any) -> Tensor:
            assert all(float(mask.detach().max()) <= 1 for mask in masks)
            return true(masks, *rest)

        totals = []
        for step in (true, slow):
            monkeypatch.setattr(tascnet, "roi_flatten", step)
            model = network(config)
            with PretendedDevice("cuda") as device:
                model.to("cuda")
                batch = batch_of(1, "cuda")
                device.waits.clear()
                take_step(model, config, batch)
                totals.append(device.total)
        assert totals[1] > totals[0]

    def test_results_on_the_device(self, config: Config, monkeypatch: pytest.MonkeyPatch):
        true = fusion.interpolated_argmax
        monkeypatch.setattr(fusion, "interpolated_argmax", lambda *given: true(*given).to("cuda"))
        config.fusion = replace(config.fusion, method="unguided")
        with PretendedDevice("cuda"):
            found = predict(config, network(config).to("cuda"))
            logits = found.stuff_logits
            vars(found).update(stuff_logits=logits.with_values(logits.values.to("cuda")))
            with pytest.raises(MixedDevicesError):
                measure_doubt(found, STREETS, 0.01)


class TestPretendedDevice:
    """The pretence itself, against what CUDA and MPS do."""

    def test_mixes_are_refused(self):
        host = torch.ones(3, 3)
        with PretendedDevice("cuda") as device:
            there = host.to("cuda")
            assert (there.device.type, host.device.type, there.is_cuda, host.is_cuda) == ("cuda", "cpu", True, False)
            for made in (there[:2].mT, there + 1, torch.zeros_like(there), torch.arange(3, device="cuda")):
                assert device.holds(made)
            for made in (host[:2].mT, there.cpu(), there.new_zeros(2, device="cpu")):
                assert not device.holds(made)
            refused: list[Callable[[], Any]] = [
                lambda: host + there,
                lambda: torch.cat([host, there]),
                lambda: host @ there,
                lambda: host[torch.tensor([0], device="cuda")],
                lambda: torch.where(host > 0, there, there),
                lambda: there.index_put((torch.tensor([0]),), host[0]),
                lambda: there.numpy(),
                lambda: torch.nn.functional.interpolate(there[None, None], size=(4, 4)) + torch.ones(4, 4),
            ]
            for operation in refused:
                with pytest.raises(MixedDevicesError):
                    operation()
            with torch.inference_mode(), pytest.raises(MixedDevicesError):
                torch.where(host > 0, there, there)
            assert device.holds(there * torch.tensor(2.0))  # a number in main memory
            assert device.holds(there[torch.tensor([0])])

    def test_waits_are_counted(self):
        with PretendedDevice("cuda") as device:
            there, host = torch.ones(4, device="cuda"), torch.ones(4)
            assert device.total == 0
            waiting: list[Callable[[], Any]] = [
                lambda: there.sum().item(),
                lambda: int(there.sum()),
                lambda: bool(there.all()),
                lambda: there.tolist(),
                lambda: there.cpu(),
                lambda: there.to("cpu"),
                lambda: host.to("cuda"),
                lambda: there.nonzero(),
                lambda: torch.where(there > 0),
                lambda: there[there > 0],
                lambda: there.unique(),
                lambda: there.long().bincount(),
                lambda: torch.equal(there, there),
                lambda: there.masked_select(there > 0),
                lambda: torch.tensor([1.0], device="cuda"),
                lambda: there.new_tensor([1.0]),
                lambda: there[torch.tensor([0])],
                lambda: there.copy_(host),
                lambda: host.copy_(there),
                lambda: there.numpy(force=True),
            ]
            for number, operation in enumerate(waiting):
                for mode in (torch.enable_grad, torch.inference_mode):
                    device.waits.clear()
                    with mode():
                        operation()
                    assert device.total == 1, (number, mode, device.waits)
            device.waits.clear()
            there.add_(1).masked_fill_(there > 1, 0)
            torch.full((), 3, device="cuda")
            host.to("cuda", non_blocking=True)
            there.to(torch.float16)
            host.tolist()
            host.sum().item()
            assert device.total == 0, device.waits

    def test_gradients_are_on_the_device(self):
        weight = torch.ones(3, requires_grad=True)
        with PretendedDevice("mps") as device:
            there = torch.nn.Parameter(weight.detach().to("mps"))
            (there * there).sum().backward()
            assert there.grad is not None
            assert device.holds(there.grad)
            assert there.grad.tolist() == [2.0, 2.0, 2.0]

    def test_apple_has_no_double_precision(self):
        host = torch.ones(2, dtype=torch.float64)
        with PretendedDevice("mps"):
            for operation in (
                lambda: host.to("mps"),
                lambda: torch.zeros(2, dtype=torch.float64, device="mps"),
                lambda: torch.ones(2, device="mps").double(),
            ):
                with pytest.raises(NoDoublePrecisionError):
                    operation()


TORCHVISION_ON_MPS = {
    f"torchvision::{name}.{overload}"
    for name in ("nms", "roi_align", "_roi_align_backward")
    for overload in ("default", "")
}
"""Of torchvision's operations, those that the network uses; torchvision/csrc/ops/mps/mps_kernels.h has them."""

COMPOSED = {"CompositeImplicitAutograd", "CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional"}
"""Dispatch keys of operations that are made of others on any device."""


@cache
def native_functions() -> dict[str, tuple[frozenset[str], str | None]]:
    """Name with overload -> its dispatch keys, and the operation that it leaves its kernel to, from torchgen's table.

    A build without MPS has no kernels of it to ask for, but this table is what builds with MPS are made from.
    """
    folder = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native"
    table = {}
    for entry in yaml.load((folder / "native_functions.yaml").read_text(), yaml.CSafeLoader):
        name = entry["func"].split("(")[0]
        keys = {key.strip() for keys in entry.get("dispatch") or {} for key in keys.split(",")}
        if not keys and "structured_delegate" not in entry:
            keys = {"CompositeImplicitAutograd"}
        table[_full(name)] = frozenset(keys), entry.get("structured_delegate")
    return table


def _full(name: str) -> str:
    return name if "." in name else f"{name}.default"


def runs_on_mps(operation: str) -> bool:
    """Whether an operation such as "aten::add.Tensor" has a kernel on Apple's GPUs."""
    if operation in TORCHVISION_ON_MPS:
        return True
    keys, delegate = native_functions().get(_full(operation.removeprefix("aten::")), (frozenset(), None))
    return bool(keys & (COMPOSED | {"MPS"})) or (delegate is not None and runs_on_mps(delegate))


def test_all_operations_have_kernels_on_apple_gpus(config: Config):
    used: set[str] = set()
    for (outputs, stride), method, optimizer in zip(HEADS[:2], ("joint", "mask-guided"), ("adamw", "sgd"), strict=True):
        config.model.stuff_head.outputs, config.model.stuff_head.stride = outputs, stride  # type: ignore[assignment]
        config.fusion, config.optimizer.name = replace(config.fusion, method=method), optimizer  # type: ignore[assignment, arg-type]
        model = network(config)
        with PretendedDevice("mps") as device:
            model.to("mps")
            take_step(model, config, batch_of(2, "mps"))
            predict(config, model)
        used |= device.operations
    seen = {operation.split(".")[0].removeprefix("aten::") for operation in used}
    assert seen >= {"convolution", "convolution_backward", "upsample_bilinear2d", "nonzero", "topk"}
    assert seen >= {"torchvision::nms", "torchvision::roi_align", "torchvision::_roi_align_backward"}
    missing = sorted(operation for operation in used if not runs_on_mps(operation))
    assert not missing, missing


def test_the_table_knows_what_apple_gpus_lack():
    for present in ("aten::add.Tensor", "aten::nonzero.default", "aten::add_.Tensor", "aten::batch_norm.default"):
        assert runs_on_mps(present)
    for missing in (
        "aten::ormqr.default",
        "aten::mode.default",
        "aten::fractional_max_pool3d.default",
        "aten::no_such",
    ):
        assert not runs_on_mps(missing)
    assert not runs_on_mps("torchvision::deform_conv2d.default")
