"""Runs, checkpoints, shared networks and weights made elsewhere, for all verbs that read a network or a run."""

import json
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from .byte_damage import BROKEN_INSIDE, NO_FILE, NO_FILE_OF_ITS_KIND, flipped, harmful_pickle, rewrite
from .cases import BAD_INPUT, PROBLEMS, Case, Outcome, Place, either, refused, works

GROUP = "checkpoints"
WEIGHTS = "model.safetensors"
NEWEST = "checkpoints/step_000002"
_ABSENT = ("out/panoptic.json", "out/model.safetensors", "out.safetensors", "out/report.json", "out/triage.json")


def cases() -> Iterator[Case]:
    yield from _damaged_weights()
    yield from _damaged_texts()
    yield from _headers()
    yield from _resumed()
    yield from _foreign()
    yield from _listed()


# Commands that read a network


def command(verb: str, place: Place, network: object) -> list[object]:
    """The arguments with which a verb reads a network."""
    photos = place.world / "photos"
    return {
        "predict": ["predict", network, photos, "--output", "out"],
        "triage": ["triage", network, photos, "--output", "out"],
        "info": ["info", network, "--height", 64, "--width", 128],
        "evaluate": ["evaluate", network, "--output", "out"],
        "share": ["share", network, "out"],
        "init": ["train", "--config", place.world / "config.yaml", "--init", network, "--output", "out"],
        "resume": ["train", "--resume", network],
    }[verb]


Spoil = Callable[[Path, Random], object]


def _spoiled(verb: str, network: str, spoil: Spoil) -> Callable[[Place], list[object]]:
    def prepare(place: Place) -> list[object]:
        path = place.copy(network)
        spoil(path, place.random)
        return command(verb, place, path)

    return prepare


# Files of weights

_FILES: Mapping[str, tuple[str, str]] = {  # what is copied, and which file in it is damaged
    "run": ("run", f"{NEWEST}/{WEIGHTS}"),
    "shared": ("shared", WEIGHTS),
    "file": ("shared.safetensors", ""),
}
_READERS = {"run": ("predict",), "shared": ("info",), "file": ("info",)}


def _damaged_weights() -> Iterator[Case]:
    """Every reader refuses weights that are not those that were written."""
    damages = {**NO_FILE_OF_ITS_KIND, **BROKEN_INSIDE}
    for kind, (network, file) in _FILES.items():
        for name, damage in damages.items():
            for verb in _READERS[kind] if "flipped" not in name else ("info", "predict", "share", "triage"):
                spoil = partial(_rewrite_inside, file, damage)
                wanted = refused(".safetensors", absent=_ABSENT)
                yield Case(GROUP, f"{kind}, {verb}: weights {name}", _spoiled(verb, network, spoil), wanted)
        for name, put in NO_FILE.items():
            spoil = partial(_put_inside, file, put)
            wanted = refused(absent=_ABSENT)
            yield Case(GROUP, f"{kind}, info: weights {name}", _spoiled("info", network, spoil), wanted, seconds=6)
        for name, change in _TENSORS.items():
            for verb in _READERS[kind]:
                spoil = partial(_change_tensors, file, change)
                wanted = refused(absent=_ABSENT)
                yield Case(GROUP, f"{kind}, {verb}: tensors, {name}", _spoiled(verb, network, spoil), wanted)
    for verb in ("evaluate", "init"):
        for name in ("3 bits flipped", "200 bits flipped", "cut at a half"):
            spoil = partial(_rewrite_inside, f"{NEWEST}/{WEIGHTS}", damages[name])
            wanted = refused(".safetensors", absent=_ABSENT)
            yield Case(GROUP, f"run, {verb}: weights {name}", _spoiled(verb, "run", spoil), wanted)
    for use in ("average", "best"):
        spoil = partial(_rewrite_all, ("ema.safetensors", WEIGHTS), flipped(40, 0.3))

        def prepare(place: Place, use: str = use, spoil: Spoil = spoil) -> list[object]:
            return [*_spoiled("predict", "run", spoil)(place), "--use", use]

        yield Case(GROUP, f"run, predict: --use {use}, bits flipped", prepare, refused(absent=_ABSENT))


def _rewrite_inside(file: str, damage: Callable[[bytes, Random], bytes], path: Path, random: Random) -> None:
    rewrite(path / file if file else path, damage, random)


def _put_inside(file: str, put: Callable[[Path], None], path: Path, random: Random) -> None:
    put(path / file if file else path)


def _rewrite_all(names: tuple[str, ...], damage: Callable[[bytes, Random], bytes], path: Path, random: Random) -> None:
    for name in names:
        for file in path.rglob(name):
            rewrite(file, damage, random)


def _change_tensors(file: str, change: Callable[[dict[str, Any]], object], path: Path, random: Random) -> None:
    """Write the tensors anew: a sound file of other content, whose bytes only the values betray."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    path = path / file if file else path
    with safe_open(path, "pt") as opened:
        texts = opened.metadata()
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, texts)


def _largest(tensors: dict[str, Any]) -> str:
    return max(tensors, key=lambda name: tensors[name].numel())


def _set_first(value: float) -> Callable[[dict[str, Any]], None]:
    def change(tensors: dict[str, Any]) -> None:
        tensors[_largest(tensors)].view(-1)[0] = value

    return change


def _converted(kind: str) -> Callable[[dict[str, Any]], None]:
    def change(tensors: dict[str, Any]) -> None:
        import torch

        name = _largest(tensors)
        tensors[name] = tensors[name].to(getattr(torch, kind))

    return change


def _transposed(tensors: dict[str, Any]) -> None:
    name = _largest(tensors)
    tensors[name] = tensors[name].transpose(0, 1).contiguous()


def _extra(tensors: dict[str, Any]) -> None:
    tensors["more.weight"] = tensors[_largest(tensors)].clone()


def _renamed(tensors: dict[str, Any]) -> None:
    tensors["\x1b[31mred"] = tensors.pop(_largest(tensors))


_TENSORS: Mapping[str, Callable[[dict[str, Any]], object]] = {
    "one is not a number": _set_first(float("nan")),
    "one is infinite": _set_first(float("inf")),
    "one missing": lambda tensors: tensors.pop(_largest(tensors)),
    "one too many": _extra,
    "one under a name of control codes": _renamed,
    "one of another shape": _transposed,
    "one of integers": _converted("int32"),
    "one of 8 bits": _converted("uint8"),
    "one of complex numbers": _converted("complex64"),
    "none": lambda tensors: tensors.clear(),
}


# The beginning of a safetensors file


def _safetensors(header: bytes, body: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + body


_HEADERS: Mapping[str, bytes] = {
    "a header of 2^63 bytes": _safetensors(b"{}", length=2**63),
    "a header of 10 GB": _safetensors(b"{}", length=10**10),
    "a header that is no JSON": _safetensors(b"{x}"),
    "a header that is a list": _safetensors(b"[]"),
    "a header of deep brackets": _safetensors(b"[" * 100_000),
    "a header of 5,000 digits": _safetensors(
        b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,4]}}'
    ),
    "an unknown type": _safetensors(b'{"a":{"dtype":"F13","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
    "offsets far outside": _safetensors(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4000000000]}}', bytes(4)),
    "offsets that overlap": _safetensors(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        bytes(4),
    ),
    "a shape of 10^18": _safetensors(
        b'{"a":{"dtype":"F32","shape":[1000000000,1000000000],"data_offsets":[0,4]}}', bytes(4)
    ),
    "a negative shape": _safetensors(b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', bytes(4)),
    "no tensors": _safetensors(b"{}"),
    "a name twice": _safetensors(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
        bytes(8),
    ),
}


def _headers() -> Iterator[Case]:
    for name, content in _HEADERS.items():
        for kind in ("run", "file"):
            network, file = _FILES[kind]
            spoil = partial(_rewrite_inside, file, lambda old, random, content=content: content)
            yield Case(GROUP, f"{kind}, predict: {name}", _spoiled("predict", network, spoil), refused(absent=_ABSENT))


# Texts beside the weights


def _damaged_texts() -> Iterator[Case]:
    for network, folder in (("run", f"{NEWEST}/"), ("shared", "")):
        for file in ("checkpoint.json", "config.yaml"):
            for name, damage in NO_FILE_OF_ITS_KIND.items():
                spoil = partial(_rewrite_inside, folder + file, damage)
                wanted = refused(file, absent=_ABSENT)
                if file == "config.yaml" and name in ("cut at a tenth", "cut at a half"):
                    wanted = refused(absent=_ABSENT)
                yield Case(GROUP, f"{network}, predict: {file} {name}", _spoiled("predict", network, spoil), wanted)
            for name in ("a folder", "missing", "a named pipe"):
                spoil = partial(_put_inside, folder + file, NO_FILE[name])
                wanted = either() if network == "run" else refused(absent=_ABSENT)
                yield Case(
                    GROUP, f"{network}, info: {file} {name}", _spoiled("info", network, spoil), wanted, seconds=6
                )
        for name, change in _FACTS.items():
            spoil = partial(_change_json, folder + "checkpoint.json", change)
            verb = "info" if network == "run" else "share"
            wanted = refused("checkpoint.json", absent=_ABSENT)
            if name == "a category too few":  # which of the weights and the list is wrong cannot be found out
                wanted = refused("are not those of the network", absent=_ABSENT)
            elif name in _BESIDE_THE_NETWORK:
                wanted = either()
            yield Case(GROUP, f"{network}, {verb}: facts, {name}", _spoiled(verb, network, spoil), wanted)


def _change_json(file: str, change: Callable[[dict[str, Any]], object], path: Path, random: Random) -> None:
    content = json.loads((path / file).read_text())
    change(content)
    (path / file).write_text(json.dumps(content))


def _fact(**values: object) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.update(values)


def _category(**values: object) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["categories"][0].update(values)


_BESIDE_THE_NETWORK = (
    "an origin that is a number",
    "weights of the origin that are a number",
    "measured figures that are a text",
)
"""No figure depends on them: they count as not known."""
_FACTS: Mapping[str, Callable[[dict[str, Any]], object]] = {
    "a newer version": _fact(format_version=99),
    "a version that is a text": _fact(format_version="1"),
    "a version of 0": _fact(format_version=0),
    "a version that is true": _fact(format_version=True),
    "no version": lambda content: content.pop("format_version"),
    "no categories": lambda content: content.pop("categories"),
    "categories that are empty": _fact(categories=[]),
    "categories that are a number": _fact(categories=5),
    "a category too few": lambda content: content["categories"].pop(),
    "a category twice": lambda content: content["categories"].append(content["categories"][0]),
    "isthing that is a text": _category(isthing="0"),
    "a name that is nothing": _category(name=None),
    "a colour of 300": _category(color=[300, 0, 0]),
    "no progress": lambda content: content.pop("progress"),
    "a step that is a text": _fact(progress={"step": "two", "seconds": 1}),
    "a step that is no number": _fact(progress={"step": float("nan"), "seconds": 1}),
    "a step that is infinite": _fact(progress={"step": float("inf"), "seconds": 1}),
    "an origin that is a number": _fact(origin=5),
    "weights of the origin that are a number": _fact(origin={"weights": 7}),
    "measured figures that are a text": _fact(measured="good"),
}


# Resuming


def _resumed() -> Iterator[Case]:
    """A damaged newest checkpoint is named, and training resumes from the one before; two are refused."""
    for file in (WEIGHTS, "training.safetensors", "ema.safetensors", "training.json", "checkpoint.json", "config.yaml"):
        for name in ("empty", "cut at a half", "200 bits flipped", "noise", "missing"):
            spoil = partial(_damage_newest, file, name)
            wanted = works(partial(_falls_back, file))
            if name == "cut at a half" and file == "config.yaml":
                wanted = works()
            yield Case(GROUP, f"resume: {file} {name}", _spoiled("resume", "run", spoil), wanted, seconds=20)
    for name in ("cut at a half", "200 bits flipped"):
        spoil = partial(_rewrite_all, (WEIGHTS,), {**NO_FILE_OF_ITS_KIND, **BROKEN_INSIDE}[name])
        yield Case(GROUP, f"resume: all weights {name}", _spoiled("resume", "run", spoil), refused(WEIGHTS), seconds=20)
    for name, damage in NO_FILE_OF_ITS_KIND.items():
        spoil = partial(_rewrite_inside, "metrics.jsonl", damage)
        yield Case(GROUP, f"resume: metrics.jsonl {name}", _spoiled("resume", "run", spoil), either(), seconds=20)
    yield Case(GROUP, "resume: a linked checkpoint", _spoiled("resume", "run", _link_newest), either(), seconds=20)


def _damage_newest(file: str, name: str, path: Path, random: Random) -> None:
    """Also take a step off the end, so that there is something left to train."""
    for report in ("report.json", "report.md"):
        (path / report).unlink(missing_ok=True)
    damaged = path / NEWEST / file
    if name == "missing":
        damaged.unlink()
    else:
        rewrite(damaged, {**NO_FILE_OF_ITS_KIND, **BROKEN_INSIDE}[name], random)


def _falls_back(file: str, outcome: Outcome) -> str:
    said = outcome.out + outcome.err
    return "" if "step_000002" in said or file in said else f"{file} is not named"


def _link_newest(path: Path, random: Random) -> None:
    elsewhere = path.parent / "elsewhere"
    shutil.move(path / NEWEST, elsewhere)
    (path / NEWEST).symlink_to(elsewhere)


# Weights made elsewhere


def _foreign() -> Iterator[Case]:
    for network in ("zoo.pkl", "zoo.pth"):
        sound = works(lambda outcome: "" if "COCO" in outcome.out or "133" in outcome.out else "not recognised")
        yield Case(GROUP, f"{network}, info: sound", _spoiled("info", network, lambda path, random: None), sound)
        for name, damage in {**NO_FILE_OF_ITS_KIND, **BROKEN_INSIDE}.items():
            wanted = refused(network, absent=_ABSENT)
            if "flipped" in name or "zeroed" in name:  # numbers in a pickle have no checksum
                wanted = either(lambda outcome: "", network)
            spoil = partial(_rewrite_inside, "", damage)
            yield Case(GROUP, f"{network}, info: {name}", _spoiled("info", network, spoil), wanted)
        for name, put in NO_FILE.items():
            spoil = partial(_put_inside, "", put)
            wanted = refused(absent=_ABSENT)
            yield Case(GROUP, f"{network}, info: {name}", _spoiled("info", network, spoil), wanted, seconds=6)
    for name, make in _PICKLES.items():
        prepare = _spoiled("info", "zoo.pkl", partial(_write_bytes, make))
        yield Case(GROUP, f"zoo.pkl, info: {name}", prepare, refused("zoo.pkl", absent=_ABSENT))
    for name, save in _TORCH_FILES.items():
        spoil = partial(_save, save)
        yield Case(
            GROUP, f"zoo.pth, info: {name}", _spoiled("info", "zoo.pth", spoil), refused("zoo.pth", absent=_ABSENT)
        )
    for kind in ("zoo.pkl", "zoo.pth", "shared.safetensors"):

        def backbone(place: Place, kind: str = kind) -> list[object]:
            config = place.world / "config.yaml"
            flags = ["--model.backbone.weights", place.world / kind]
            return ["train", "--config", config, "--output", "out", *flags]

        yield Case(GROUP, f"train: backbone.weights is {kind}", backbone, refused(absent=_ABSENT))


def _write_bytes(make: Callable[[], bytes], path: Path, random: Random) -> None:
    path.write_bytes(make())


def _nested(depth: int) -> bytes:
    return b"]" * depth + b"a" * (depth - 1) + b"."


def _doubled_list() -> bytes:
    """Each list holds the one before ten times: 10^9 entries in memos of a few hundred bytes."""
    stream = b"]q\0"
    for number in range(9):
        get = b"h" + bytes([number])
        stream += b"](" + get * 10 + b"eq" + bytes([number + 1])
    return stream + b"."


_PICKLES: Mapping[str, Callable[[], bytes]] = {
    "code": lambda: harmful_pickle("../canary"),
    "code by a builtin": lambda: b"cbuiltins\neval\n(V__import__('os').system('touch ../canary')\ntR.",
    "code in protocol 4": lambda: b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x10touch ../canary \x85R.",
    "code by a persistent id": lambda: b"\x80\x02U\x05x\0x\0xQ.",
    "a memo of index 2^31": lambda: b"]r\xff\xff\xff\x7f.",
    "a memo of text index 10^12": lambda: b"]p1000000000000\n.",
    "a frame of 2^60 bytes": lambda: b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"N.",
    "a text of 2^60 bytes": lambda: b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b"x.",
    "bytes of 2^40": lambda: b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.",
    "an integer of 2 GB": lambda: b"\x80\x02\x8b\xff\xff\xff\x7f\x01.",
    "100,000 lists in each other": lambda: _nested(100_000),
    "lists that double": _doubled_list,
    "no end": lambda: b"\x80\x02}",
    "an empty stack": lambda: b".",
    "an unknown protocol": lambda: b"\x80\xff}.",
    "a number": lambda: pickle.dumps(5),
    "a text": lambda: pickle.dumps("weights"),
    "an empty dictionary": lambda: pickle.dumps({}),
    "a model that is a list": lambda: pickle.dumps({"model": [1, 2]}),
    "keys that are numbers": lambda: pickle.dumps({"model": {1: 2.0}}),
    "a name of control codes": lambda: pickle.dumps({"model": {"\x1b[31mred": 1.0}, "__author__": "\x07"}),
    "a circle": lambda: b"\x80\x02}q\0(U\x05modelh\0u.",
}


def _save(save: Callable[[Path], object], path: Path, random: Random) -> None:
    save(path)


def _torch_save(make: Callable[[], object]) -> Callable[[Path], object]:
    def save(path: Path) -> None:
        import torch

        torch.save(make(), path)

    return save


def _tensors(**shapes: tuple[int, ...]) -> dict[str, Any]:
    import torch

    return {name: torch.zeros(shape) for name, shape in shapes.items()}


def _deflated(path: Path) -> None:
    """The same file with its storages deflated a thousand to one: 300 MB of zeros in 300 kB."""
    import torch

    plain = path.with_suffix(".plain")
    torch.save({"model": {"backbone.weight": torch.zeros(75_000_000)}}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    plain.unlink()


def _without_storages(path: Path) -> None:
    kept = path.with_suffix(".kept")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(kept, "w") as target:
        for entry in source.infolist():
            if "/data/" not in entry.filename:
                target.writestr(entry.filename, source.read(entry))
    kept.rename(path)


def _script(path: Path) -> None:
    import torch

    torch.jit.script(torch.nn.ReLU()).save(str(path))


def _harmful_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", harmful_pickle("../canary"))
        archive.writestr("archive/version", "3\n")


_TORCH_FILES: Mapping[str, Callable[[Path], object]] = {
    "a list": _torch_save(lambda: [1, 2]),
    "a tensor": _torch_save(lambda: _tensors(a=(3,))["a"]),
    "an empty dictionary": _torch_save(dict),
    "another network": _torch_save(lambda: _tensors(**{"layer1.weight": (3, 3)})),
    "a transformer": _torch_save(lambda: _tensors(**{"model.decoder.layers.0.self_attn.q_proj.weight": (8, 8)})),
    "names of control codes": _torch_save(lambda: _tensors(**{"\x1b[31m.weight": (3,)})),
    "a state that is nothing": _torch_save(lambda: {"model": None}),
    "keys that are numbers": _torch_save(lambda: {5: 1}),
    "a sparse hole of 8 GB": lambda path: path.open("r+b").truncate(8 * 2**30),
    "storages that are missing": _without_storages,
    "a script": _script,
    "code in an archive": _harmful_archive,
    "zeros deflated 1000 to 1": _deflated,
}


# Lists and curves of runs


def _listed() -> Iterator[Case]:
    """One damaged run beside a sound one: both are listed; a curve of the damaged one is refused or drawn."""
    for file in ("run.json", "config.yaml", "metrics.jsonl", "report.json"):
        for name, damage in NO_FILE_OF_ITS_KIND.items():
            if name in ("one byte", "bzip2", "xz", "zip"):
                continue
            spoil = partial(_rewrite_inside, file, damage)
            prepare = partial(_runs_with, spoil)
            wanted = works(_both_runs, code=0)
            yield Case(GROUP, f"runs: {file} {name}", prepare, wanted)
        for name in ("a folder", "a named pipe", "a link to itself"):
            spoil = partial(_put_inside, file, NO_FILE[name])
            yield Case(GROUP, f"runs: {file} {name}", partial(_runs_with, spoil), works(_both_runs), seconds=5)
    for name, damage in {**NO_FILE_OF_ITS_KIND, **_METRICS}.items():
        spoil = partial(_rewrite_inside, "metrics.jsonl", damage)

        def prepare(place: Place, spoil: Spoil = spoil) -> list[object]:
            path = place.copy("run")
            spoil(path, place.random)
            return ["plot", path, "--output", "curves.png"]

        wanted = either(lambda outcome: "", "metrics.jsonl", codes=(PROBLEMS, BAD_INPUT))
        yield Case(GROUP, f"plot: metrics.jsonl {name}", prepare, wanted)


def _runs_with(spoil: Spoil, place: Place) -> list[object]:
    place.copy("run", "runs/sound")
    spoil(place.copy("run", "runs/spoiled"), place.random)
    return ["runs", "runs", "--json"]


def _both_runs(outcome: Outcome) -> str:
    try:
        names = {run["name"] for run in json.loads(outcome.out)["runs"]}
    except (ValueError, LookupError, TypeError):
        return f"not the JSON that was expected: {outcome.out[:100]}"
    return "" if "sound" in names else f"listed are {sorted(names)}"


_METRICS: Mapping[str, Callable[[bytes, Random], bytes]] = {
    "a step that is a text": lambda content, random: content + b'{"step": "x", "loss/total": 1}\n',
    "a step of 10^30": lambda content, random: content + b'{"step": 1' + b"0" * 30 + b', "loss/total": 1}\n',
    "a loss that is a text": lambda content, random: content + b'{"step": 3, "loss/total": "low"}\n',
    "a loss of 1e999": lambda content, random: content + b'{"step": 3, "loss/total": 1e999}\n',
    "a number of 5,000 digits": lambda content, random: content + b'{"step": 3, "lr": ' + b"9" * 5000 + b"}\n",
    "deep brackets": lambda content, random: content + b"[" * 100_000 + b"\n",
    "a list": lambda content, random: content + b"[1]\n",
    "no line feed at all": lambda content, random: content.replace(b"\n", b" "),
}
