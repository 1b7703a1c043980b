"""Configuration files and flags, for `train`, `info`, `evaluate` and `data augment`."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import yaml

from .byte_damage import NO_FILE, NO_FILE_OF_ITS_KIND, rewrite
from .cases import Case, Outcome, Place, either, refused, works

GROUP = "configs"


def cases() -> Iterator[Case]:
    yield from _files()
    yield from _texts()
    yield from _values()
    yield from _flags()
    yield from _of_a_run()


def _train(place: Place, config: object, *flags: object) -> list[object]:
    return ["train", "--config", config, "--output", "out", *flags]


_ABSENT = ("out/**/*.safetensors", "out/run.json")


# Files that are no configuration


def _files() -> Iterator[Case]:
    for verb in ("train", "info", "augment"):
        for name, damage in NO_FILE_OF_ITS_KIND.items():

            def prepare(place: Place, verb: str = verb, damage: Callable = damage) -> list[object]:
                rewrite(place.copy("config.yaml"), damage, place.random)
                return _command(verb, place)

            wanted = refused("config.yaml", absent=_ABSENT)
            if name in ("cut at a tenth", "cut at a half"):  # often a sound YAML file of fewer settings
                wanted = either()
            if name == "empty" and verb == "info":
                wanted = either(lambda outcome: "", "config.yaml")
            yield Case(GROUP, f"{verb}: {name}", prepare, wanted)
    for name, put in NO_FILE.items():

        def prepare(place: Place, put: Callable[[Path], None] = put) -> list[object]:
            put(place.copy("config.yaml"))
            return _command("train", place)

        yield Case(GROUP, f"train: {name}", prepare, refused("config.yaml", absent=_ABSENT), seconds=6)


def _command(verb: str, place: Place) -> list[object]:
    return {
        "train": _train(place, "config.yaml"),
        "info": ["info", "config.yaml"],
        "augment": ["data", "augment", "config.yaml", "--output", "sheet.png"],
    }[verb]


# Texts of YAML


_BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)
TEXTS: Mapping[str, str | bytes] = {
    "a list": "- data\n- model\n",
    "a text": "resnet50\n",
    "a number": "5\n",
    "comments alone": "# nothing\n",
    "a tab": "data:\n\ttrain: {}\n",
    "an unclosed bracket": "data: {train: {format: streets\n",
    "an unclosed quote": 'data: {train: {format: "streets\n',
    "two documents": "data: {}\n---\nmodel: {}\n",
    "a key twice": "training: {steps: 2, steps: 3}\n",
    "a group twice": "training: {steps: 2}\ntraining: {seed: 3}\n",
    "a key that is a list": "? [1, 2]\n: 3\n",
    "a key that is a number": "5: {}\n",
    "a key that is nothing": "~: {}\n",
    "an unknown alias": "data: *nowhere\n",
    "a circle of aliases": "data: &a {train: *a}\n",
    "aliases without end": _BOMB + "data: *a8\n",
    "aliases of mappings without end": "a0: &a0 {x: 1, y: 2, z: 3}\n"
    + "".join(f"a{n}: &a{n} {{p: *a{n - 1}, q: *a{n - 1}, r: *a{n - 1}, s: *a{n - 1}}}\n" for n in range(1, 15))
    + "model: *a14\n",
    "merged keys in a circle": "data: &a\n  <<: *a\n",
    "deep brackets": "data: " + "[" * 3000 + "]" * 3000 + "\n",
    "deep indents": "".join(" " * n + f"a{n}:\n" for n in range(1500)),
    "a python object": "data: !!python/object/apply:os.system ['touch ../canary']\n",
    "a python name": "data: !!python/name:os.system\n",
    "an unknown tag": "data: !include other.yaml\n",
    "a binary value": "training: {init: !!binary aGVsbG8=}\n",
    "a date that is none": "training: {steps: 2024-99-99}\n",
    "a date": "training: {init: 2024-05-05}\n",
    "a number of 5,000 digits": f"training: {{steps: {'9' * 5000}}}\n",
    "a number in base 60": "training: {steps: 1:30}\n",
    "control codes": b"data: \x1b[31m\x07\n",
    "zero bytes": b"data: \0\n",
    "UTF-16 of something else": "Grüße".encode("utf-16"),
    "Latin-1": "training: {init: Größe}\n".encode("latin-1"),
    "JSON cut short": '{"data": {"train": ',
    "TOML": '[data]\nformat = "streets"\n',
    "INI": "[data]\nformat: streets\nroot\n",
    "a value of 3 MB": "training: {init: " + "x" * 3_000_000 + "}\n",
    "a key of 100 kB": "x" * 100_000 + ": 1\n",
    "windows paths": 'data: {train: {root: "C:\\Users\\new"}}\n',
}


def _texts() -> Iterator[Case]:
    for name, text in TEXTS.items():
        content = text.encode() if isinstance(text, str) else text
        for verb in ("train", "info"):

            def prepare(place: Place, verb: str = verb, content: bytes = content) -> list[object]:
                (place.folder / "config.yaml").write_bytes(content)
                return _command(verb, place)

            if verb == "info" and name in ("comments alone", "a date", "Latin-1", "a value of 3 MB", "windows paths"):
                continue
            yield Case(GROUP, f"{verb}: text, {name}", prepare, refused(absent=_ABSENT))
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):

        def encoded(place: Place, encoding: str = encoding) -> list[object]:
            (place.folder / "config.yaml").write_bytes((place.world / "config.yaml").read_text().encode(encoding))
            return ["info", "config.yaml"]

        yield Case(GROUP, f"info: text, {encoding}", encoded, either(_counted, "config.yaml"))


def _counted(outcome: Outcome) -> str:
    """The network of the world's config has far less parameters than the default one."""
    return "" if "test_efficientnet" in outcome.out or "parameters" in outcome.out else "no parameters are printed"


# Values of settings

IMPOSSIBLE: Mapping[str, tuple[object, ...]] = {
    "training.steps": (0, -1, 1.5, "many", None, [], {}, True, float("inf"), float("nan")),
    "training.seed": (-1, 2**64, 2**70, "x"),
    "training.devices": (0, -1, 10_000),
    "training.ema_decay": (1, -0.1, float("nan")),
    "training.precision": ("8-mixed", 16, None),
    "training.accelerator": ("tpu", "cuda:99"),
    "training.init": ("nowhere", "nowhere/at/all", "\0", "..", 2017, "x" * 5000),
    "training.max_minutes": (-1, float("nan")),
    "training.keep_last": (0, -3),
    "training.accumulate": (0, -1),
    "training.log_every": (0,),
    "training.checkpoint_every": (0, -5),
    "optimizer.lr": (0, -0.1, float("nan"), float("inf"), "fast", "1e400"),
    "optimizer.milestones": ("x", [2, 3], [-1], [float("nan")]),
    "optimizer.momentum": (-1, 1.5, float("nan")),
    "optimizer.weight_decay": (-1, float("inf")),
    "optimizer.name": ("adam", 5),
    "data.batch_size": (0, -2, 2.5, 10**30),
    "data.workers": (-1, "all"),
    "data.train.format": ("voc", None, 3),
    "data.train.num_images": (-1, 0, 10**30),
    "data.train.height": (0, -64, 7),
    "data.train.group_by": ("nowhere.yaml", "/dev/zero", ""),
    "data.val.first": (-1,),
    "data.input.scale_jitter": ([2, 1], [0, 1], [1], ["a", "b"], [1, float("inf")]),
    "data.input.crop": ([32], [-32, 32], [10**9, 10**9], "x"),
    "data.input.flip": (-0.5, 1.5, float("nan")),
    "data.input.short_side": (-1,),
    "data.input.color_jitter": (-1, float("nan")),
    "model.backbone.name": ("resnet51", "", "../x", "vit_base_patch16_224"),
    "model.backbone.weights": ("nowhere.pth", "x" * 400 + ".pth", "random.txt"),
    "model.pyramid_channels": (0, -1, 10**12),
    "model.stuff_head.channels": (1, 0, 10**9),
    "model.stuff_head.stride": (3,),
    "model.things_head.anchor_sizes": ([], [0], [-8], [8] * 9, "x"),
    "model.things_head.anchor_ratios": ([0], [float("nan")]),
    "model.things_head.roi_samples": (0, -1),
    "fusion.method": ("magic", None),
    "fusion.mask_threshold": (-0.1, 1.5, float("nan")),
    "fusion.min_stuff_area": (-1,),
    "loss.tasc": (-1, float("nan"), float("inf")),
}


_WORDS = {"training.init": "", "model.backbone.name": "backbone"}
"""What the message must hold where it is not the name of the setting."""


def _values() -> Iterator[Case]:
    for name, values in IMPOSSIBLE.items():
        for value in values:

            def prepare(place: Place, name: str = name, value: object = value) -> list[object]:
                content = yaml.safe_load((place.world / "config.yaml").read_text())
                *groups, last = name.split(".")
                inner = content
                for group in groups:
                    inner = inner.setdefault(group, {})
                inner[last] = value
                (place.folder / "config.yaml").write_text(yaml.safe_dump(content))
                return _train(place, "config.yaml")

            shown = repr(value) if len(repr(value)) < 30 else f"{repr(value)[:20]}..."
            word = _WORDS.get(name, name.rpartition(".")[2])
            wanted = refused(*([word] if word else []), absent=_ABSENT)
            yield Case(GROUP, f"train: {name} = {shown}", prepare, wanted, seconds=20)


# Flags

FLAGS: Mapping[str, list[object]] = {
    "an unknown flag": ["--data.trian.root", "x"],
    "a flag without value": ["--training.steps"],
    "an empty value": ["--training.steps", ""],
    "a value with a line feed": ["--training.steps", "1\n2"],
    "a value that is YAML": ["--training.steps", "{a: 1}"],
    "a group that is a text": ["--training", "fast"],
    "aliases in a flag": ["--data.input.crop", "&a [*a]"],
    "a python object in a flag": ["--training.init", "!!python/object/apply:os.system ['touch ../canary']"],
    "deep brackets in a flag": ["--data.input.crop", "[" * 3000],
    "a number of 5,000 digits in a flag": ["--training.steps", "9" * 5000],
    "no UTF-8 in a flag": ["--training.init", os.fsdecode(b"caf\xe9")],
    "no devices": ["--devices", "0"],
    "an init that is not there": ["--init", "nowhere"],
    "an init with one slash": ["--init", "nets/mine"],
}


def _flags() -> Iterator[Case]:
    for name, flags in FLAGS.items():

        def prepare(place: Place, flags: list[object] = flags) -> list[object]:
            return _train(place, place.world / "config.yaml", *flags)

        yield Case(GROUP, f"train: {name}", prepare, refused(absent=_ABSENT))
    for name, arguments in _ARGUMENTS.items():

        def call(place: Place, arguments: list[object] = arguments) -> list[object]:
            known = {"RUN": place.world / "run", "PHOTOS": place.world / "photos", "COCO": place.world / "coco"}
            return [known.get(str(argument), argument) for argument in arguments]

        yield Case(GROUP, f"flags: {name}", call, refused())


_ARGUMENTS: Mapping[str, list[object]] = {
    "no verb": [],
    "an unknown verb": ["segment"],
    "an unknown device": ["predict", "RUN", "PHOTOS", "--output", "out", "--device", "abacus"],
    "a batch of 0": ["predict", "RUN", "PHOTOS", "--output", "out", "--batch_size", "0"],
    "a negative batch": ["predict", "RUN", "PHOTOS", "--output", "out", "--batch_size", "-1"],
    "an unknown benchmark": ["predict", "RUN", "PHOTOS", "--output", "out", "--benchmark", "ade"],
    "none of the shown": ["triage", "RUN", "PHOTOS", "--output", "out", "--shown", "0"],
    "a height of 0": ["info", "RUN", "--height", "0"],
    "a width below 0": ["info", "RUN", "--width", "-5"],
    "a height of 10^9": ["info", "RUN", "--height", 10**9, "--width", 10**9],
    "negative workers": ["metrics", "a.json", "b.json", "--workers", "-1"],
    "a folder that is not there": ["runs", "nowhere"],
    "a plot of nothing": ["plot", "nowhere"],
    "a plot to an unknown suffix": ["plot", "RUN", "--output", "x.doc"],
    "a plot of an unknown key": ["plot", "RUN", "--metrics", "loss/none", "--output", "x.png"],
    "a licence of control codes": ["share", "RUN", "out", "--licence", "\x1b[31m"],
    "a repository that is none": ["share", "RUN", "--push", "a/b/c"],
    "no samples": ["data", "augment", "RUN", "--output", "x.png", "--samples", "0"],
    "an unknown network": ["info", "nowhere"],
    "a name that is nearly known": ["info", "panoptic-fpn-r50-coca"],
    "a split that is not there": ["data", "check", "COCO", "--split", "test"],
    "a split that leads out": ["data", "check", "COCO", "--split", "../x"],
    "another format": ["data", "check", "COCO", "--format", "vistas"],
    "an unknown group_by": ["data", "stats", "COCO", "--group_by", "nowhere.yaml"],
    "best of other data": ["evaluate", "RUN", "--data.format", "coco", "--data.root", "nowhere", "--data.split", "x"],
}


# A run's own settings


def _of_a_run() -> Iterator[Case]:
    for name, text in {
        "empty": "",
        "a list": "[1]",
        "cut short": "data: {train: {for",
        "noise": "\x00\x01",
        "another schedule": None,
        "more channels": None,
    }.items():

        def prepare(place: Place, name: str = name, text: str | None = text) -> list[object]:
            run = place.copy("run")
            file = run / "config.yaml"
            if text is None:
                content = yaml.safe_load(file.read_text())
                if name == "more channels":
                    content["model"]["pyramid_channels"] = 32
                content["optimizer"]["lr"] = 0.5
                file.write_text(yaml.safe_dump(content))
            else:
                file.write_text(text)
            return ["train", "--resume", run]

        words = ("config.yaml",) if text is not None else ()
        wanted = either(_told("config.yaml"), *words) if text is None else either(lambda outcome: "", *words)
        yield Case(GROUP, f"resume: config.yaml {name}", prepare, wanted, seconds=20)
    for name, environment in _ENVIRONMENTS.items():

        def call(place: Place, environment: Mapping[str, str] = environment) -> list[object]:
            os.environ.update(environment)
            return ["info", place.world / "run"]

        yield Case(GROUP, f"environment: {name}", call, either(_printed))
    for name, environment in _ENVIRONMENTS.items():
        if "RANK" in environment or "WORLD_SIZE" in environment:

            def train(place: Place, environment: Mapping[str, str] = environment) -> list[object]:
                os.environ.update(environment)
                return _train(place, place.world / "config.yaml")

            yield Case(GROUP, f"environment, train: {name}", train, either(_printed), seconds=20)
    yield Case(GROUP, "train: sound", lambda place: _train(place, place.world / "config.yaml"), works(), seconds=25)


def _printed(outcome: Outcome) -> str:
    return "" if outcome.out else "nothing is printed"


def _told(word: str) -> Callable[[Outcome], str]:
    return lambda outcome: "" if word in outcome.out + outcome.err else f"{word} is not named"


_ENVIRONMENTS: Mapping[str, Mapping[str, str]] = {
    "RANK alone": {"RANK": "1"},
    "RANK that is no number": {"RANK": "one", "WORLD_SIZE": "2"},
    "WORLD_SIZE of 0": {"RANK": "0", "WORLD_SIZE": "0", "LOCAL_RANK": "0"},
    "RANK beyond WORLD_SIZE": {"RANK": "5", "WORLD_SIZE": "2", "LOCAL_RANK": "5"},
    "COLUMNS of 1": {"COLUMNS": "1"},
    "COLUMNS that is no number": {"COLUMNS": "wide"},
    "no HOME": {"HOME": "/nowhere", "TASCNET_HOME": "/nowhere/x"},
}
