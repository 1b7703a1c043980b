"""Networks that were damaged, or made to do harm: each reader refuses them in a sentence, and tiny files stay tiny."""

import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tascnet.build import build_meta_model, build_model
from tascnet.commands.info import told_facts
from tascnet.config import Config
from tascnet.errors import MAX_MESSAGE, InputError, shown
from tascnet.networks.checkpoint import best_checkpoint
from tascnet.networks.files import checksum_of_tensors
from tascnet.networks.foreign.foreign import read_foreign
from tascnet.networks.foreign.state_file import read_state
from tascnet.networks.opening import load_network, open_network
from tascnet.networks.sharing import write_shared_file, write_shared_folder
from tascnet.structures import Category, LabelSpace
from tascnet.training.state import Progress, save_checkpoint

SPACE = LabelSpace((Category(1, "car", True), Category(2, "sky", False)))


@pytest.fixture
def checkpoint(tiny_config: Callable[[], Config], tmp_path: Path) -> Path:
    config = tiny_config()
    model = build_model(config, SPACE)
    ema = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    progress = Progress(1, 1.0)
    return save_checkpoint(tmp_path / "checkpoints", model.state_dict(), {}, config, SPACE, progress, ema=ema)


@pytest.fixture(params=["checkpoint", "folder", "file"])
def weights(request: pytest.FixtureRequest, checkpoint: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A network of each kind that is written, and its file of weights."""
    if request.param == "checkpoint":
        return checkpoint, checkpoint / "model.safetensors"
    loaded = load_network(checkpoint)
    if request.param == "folder":
        write_shared_folder(loaded, tmp_path / "shared", "float16", "card")
        return tmp_path / "shared", tmp_path / "shared" / "model.safetensors"
    write_shared_file(loaded, tmp_path / "one.safetensors", "bfloat16")
    return tmp_path / "one.safetensors", tmp_path / "one.safetensors"


def flip_bits(file: Path, count: int, seed: int) -> None:
    """Flip bits behind the header: what was written stays a valid file."""
    content = bytearray(file.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    draw = random.Random(seed)
    for _ in range(count):
        content[draw.randrange(start, len(content))] ^= 1 << draw.randrange(8)
    file.write_bytes(content)


class TestChecksum:
    @pytest.mark.parametrize("count", [1, 200])
    def test_flipped_bits_are_found(self, weights: tuple[Path, Path], count: int):
        network, file = weights
        assert load_network(network).has_checksum
        flip_bits(file, count, seed=count)
        with pytest.raises(InputError, match=r"safetensors is not as it was written: its checksum differs"):
            load_network(network)

    def test_flipped_bits_of_the_average(self, checkpoint: Path):
        assert open_network(checkpoint, use="average")
        flip_bits(checkpoint / "ema.safetensors", 1, seed=3)
        with pytest.raises(InputError, match=r"ema.safetensors is not as it was written"):
            open_network(checkpoint, use="average")

    def test_equal_content_gives_equal_bytes(self, checkpoint: Path, tmp_path: Path):
        loaded = load_network(checkpoint)
        contents = set()
        for number in range(6):  # the library orders two texts in one of two ways each time
            write_shared_file(loaded, tmp_path / f"{number}.safetensors", "float32")
            contents.add((tmp_path / f"{number}.safetensors").read_bytes())
        assert len(contents) == 1

    def test_it_covers_names_types_shapes_and_values(self):
        tensors = {"a": torch.tensor([[1.0, 0.0]]), "b": torch.tensor(2.0), "c": torch.zeros(0, 3)}
        others = [
            tensors | {"a": torch.tensor([[1.0], [0.0]])},
            tensors | {"a": torch.tensor([[1.0, -0.0]])},
            tensors | {"a": tensors["a"].view(torch.int32)},
            {"A": tensors["a"], "b": tensors["b"], "c": tensors["c"]},
            tensors | {"c": torch.zeros(0, 4)},
        ]
        found = {checksum_of_tensors(each) for each in (tensors, *others)}
        assert len(found) == len(others) + 1
        assert checksum_of_tensors(dict(reversed(tensors.items()))) in found

    def test_changed_settings_and_names(self, checkpoint: Path):
        text = (checkpoint / "config.yaml").read_text()
        (checkpoint / "config.yaml").write_text(text.replace("nms_iou: 0.5", "nms_iou: 0.7") + "# a comment\n")
        with pytest.raises(InputError, match=r"checksum of settings and categories differs.*remove the entry sha256"):
            load_network(checkpoint)
        (checkpoint / "config.yaml").write_text(yaml.safe_dump(yaml.safe_load(text)) + "# another layout is the same\n")
        load_network(checkpoint)
        facts = (checkpoint / "checkpoint.json").read_text()
        (checkpoint / "checkpoint.json").write_text(facts.replace('"car"', '"cas"'))
        with pytest.raises(InputError, match=r"checksum of settings and categories differs"):
            load_network(checkpoint)

    def test_changed_settings_and_names_in_one_file(self, checkpoint: Path, tmp_path: Path):
        file = tmp_path / "one.safetensors"
        write_shared_file(load_network(checkpoint), file, "float32")
        written = file.read_bytes()
        old_and_new = {rb"\"nms_iou\": 0.5": rb"\"nms_iou\": 0.7", rb"\"car\"": rb"\"cas\""}
        for old, new in old_and_new.items():
            assert old in written
            file.write_bytes(written.replace(old, new))
            with pytest.raises(InputError, match=r"one.safetensors is not as it was written: the checksum of settings"):
                load_network(file)

    def test_files_of_before_are_read_and_info_shows_it(self, checkpoint: Path):
        assert told_facts(load_network(checkpoint))["checksum"] == "right"
        save_file(load_file(checkpoint / "model.safetensors"), checkpoint / "model.safetensors", {"format": "pt"})
        facts = json.loads((checkpoint / "checkpoint.json").read_text())
        del facts["sha256"]
        (checkpoint / "checkpoint.json").write_text(json.dumps(facts))
        loaded = load_network(checkpoint)
        assert not loaded.has_checksum
        assert told_facts(loaded)["checksum"].startswith("none")


class TestValues:
    def change(self, checkpoint: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> str:
        """Change one tensor and leave no checksum, as another program would."""
        file = checkpoint / "model.safetensors"
        tensors = load_file(file)
        name = next(name for name in tensors if name.endswith("classifier.weight"))
        save_file(tensors | {name: change(tensors[name]).contiguous()}, file)
        return name

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
    def test_not_finite(self, checkpoint: Path, value: float):
        def spoil(tensor: torch.Tensor) -> torch.Tensor:
            tensor.view(-1)[1:3] = value
            return tensor

        name = self.change(checkpoint, spoil)
        with pytest.raises(InputError, match=rf"{name} holds 2 of \d+ values that are not finite"):
            load_network(checkpoint)

    @pytest.mark.parametrize("dtype", [torch.int32, torch.float64, torch.bool, torch.float8_e4m3fn])
    def test_another_type(self, checkpoint: Path, dtype: torch.dtype):
        name = self.change(checkpoint, lambda tensor: tensor.to(dtype))
        kind = str(dtype).removeprefix("torch.")
        with pytest.raises(InputError, match=rf"{name} has the type {kind}, not float32 or float16 or bfloat16"):
            load_network(checkpoint)


class TestMemory:
    def test_the_network_is_not_built_before_its_shapes_fit(self, checkpoint: Path, monkeypatch: pytest.MonkeyPatch):
        values = yaml.safe_load((checkpoint / "config.yaml").read_text())
        values["model"]["pyramid_channels"] = 60_000  # convolutions of 130 GB
        (checkpoint / "config.yaml").write_text(yaml.safe_dump(values))
        monkeypatch.setattr("tascnet.networks.opening.build_model", lambda *_: pytest.fail("it was built"))
        with pytest.raises(InputError, match=r"not those of the network that its settings describe"):
            load_network(checkpoint)

    def test_more_than_any_machine_counts(self, tiny_config: Callable[[], Config]):
        config = tiny_config()
        config.model.pyramid_channels = 2**31 - 1
        with pytest.raises(InputError, match=r"a network that cannot be built .* Check the numbers in the group model"):
            build_meta_model(config, SPACE)

    def test_a_compressed_archive(self, tmp_path: Path):
        torch.save({"a.weight": torch.zeros(10**6)}, tmp_path / "a.pth")
        with (
            zipfile.ZipFile(tmp_path / "a.pth") as plain,
            zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as packed,
        ):
            for entry in plain.infolist():
                packed.writestr(entry.filename, plain.read(entry))
        assert read_state(tmp_path / "a.pth")["a.weight"].shape == (10**6,)
        with pytest.raises(InputError, match=r"b.pth is an archive of [\d,]+ bytes with 4,00\d,\d+ bytes in it.*never"):
            read_state(tmp_path / "b.pth")

    def test_a_tensor_whose_elements_lie_in_one_place(self, tmp_path: Path):
        torch.save({"a.weight": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "a.pth")
        with pytest.raises(InputError, match=r"the tensor a.weight has the shape \(1000000, 1000000\), for which"):
            read_state(tmp_path / "a.pth")

    @pytest.mark.parametrize(
        "tensor",
        [torch.zeros(10, device="meta"), torch.eye(3).to_sparse(), torch.zeros(2, dtype=torch.complex64)],
        ids=["meta", "sparse", "complex"],
    )
    def test_tensors_that_are_no_plain_numbers(self, tmp_path: Path, tensor: torch.Tensor):
        torch.save({"a.weight": tensor}, tmp_path / "a.pth")
        with pytest.raises(InputError, match=r"the tensor a.weight (is sparse, quantized or without|holds complex)"):
            read_state(tmp_path / "a.pth")

    def test_a_file_that_holds_itself(self, tmp_path: Path):
        content: dict[str, object] = {}
        content["model"] = content
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(InputError, match=r"holds no tensors by name"):
            read_state(tmp_path / "a.pth")


class TestOthersFiles:
    def test_a_file_that_lacks_tensors(self, tmp_path: Path):
        for number, names in enumerate(
            (
                ("backbone.bottom_up.stem.conv1.weight", "roi_heads.mask_head.predictor.weight"),
                ("backbone.body.conv1.weight", "roi_heads.mask_predictor.mask_fcn_logits.weight"),
            )
        ):
            file = tmp_path / f"{number}.pth"
            torch.save({name: torch.zeros(4, 3, 1, 1) for name in names}, file)
            with pytest.raises(InputError, match=rf"{file.name} lacks the tensor "):
                read_foreign(file)
            torch.save({name: torch.zeros(()) for name in names}, file)
            with pytest.raises(InputError, match=rf"{file.name} (holds a tensor of another shape|lacks the tensor)"):
                read_foreign(file)

    def test_classes_of_another_library_are_named_without_codes_for_terminals(self, tmp_path: Path):
        name = b"\x80\x02cmmlib.logging\nBuffer\n)\x81."
        with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
            for entry, content in {"data.pkl": name, "version": b"3\n", "byteorder": b"little"}.items():
                archive.writestr(f"archive/{entry}", content)
        with pytest.raises(
            InputError, match=r"more than tensors: it wants mmlib.logging.Buffer of the library"
        ) as found:
            read_state(tmp_path / "a.pth")
        assert "\x1b" not in str(found.value)


def test_the_name_of_the_best_checkpoint_leads_nowhere_else(tmp_path: Path):
    file = tmp_path / "checkpoints" / "best.json"
    file.parent.mkdir()
    for name in ("../../elsewhere", "/etc", "step_1/../..", 7, None, ["step_1"]):
        file.write_text(json.dumps({"checkpoint": name, "weights": "ema"}))
        with pytest.raises(InputError, match=r"best.json names no checkpoint"):
            best_checkpoint(tmp_path)
    file.write_text(json.dumps({"checkpoint": "step_000100", "weights": "ema"}))
    assert best_checkpoint(tmp_path) == (file.parent / "step_000100", True)


class TestMessages:
    def test_control_characters_are_escaped_and_others_stay(self):
        error = InputError("a\x1b[2J\x9b\u202e\udc80\r é 道路 🙂\n")
        assert str(error) == "a\\x1b[2J\\x9b\\u202e\\udc80\\r é 道路 🙂\n"
        assert str(InputError(str(error))) == str(error)

    def test_no_message_is_long(self):
        text = str(InputError("begin" + "x" * 10**6 + "end"))
        assert len(text) == MAX_MESSAGE
        assert text.startswith("begin")
        assert text.endswith("end")

    @pytest.mark.parametrize(
        ("value", "wanted"),
        [
            ("a\x1b", r"'a\x1b'"),
            ([1, {"a": None}], "[1, {'a': None}]"),
            (10**5000, "a number of about 5,000 digits"),
            (list(range(100)), "[0, 1, 2, 3, 4, 5, ...]"),
            (True, "True"),
            ((), "()"),
        ],
        ids=["text", "nested", "digits", "long", "bool", "empty"],
    )
    def test_values(self, value: object, wanted: str):
        assert shown(value) == wanted

    def test_large_and_deep_values_are_not_looked_through(self):
        value: list[object] = []
        for _ in range(100):
            value = [value, value]  # 2 ** 100 lists
        assert len(shown(value)) <= 80
        assert len(shown({f"{number}" * 1000: "x" * 10**6 for number in range(100)})) <= 80
