"""Flags: written with dashes or underscores, in full only, and the same in all verbs."""

import argparse
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from said import Said

import tascnet as package
from tascnet import cli
from tascnet.commands.arguments import ArgumentParser
from tascnet.commands.train import config_of
from tascnet.commands.verbs import build_parser

ROOT = Path(__file__).parents[1]

NOT_SHARED = {"output"}
"""Named alike in all verbs, but a folder in some and a file in others, with a default in some."""


def parsers() -> Iterator[tuple[str, ArgumentParser]]:
    """Every verb and action of a verb, with its parser."""
    waiting = [("tascnet", build_parser(cli.VERBS))]
    while waiting:
        name, parser = waiting.pop()
        inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        waiting += [(f"{name} {verb}", verb_parser) for action in inner for verb, verb_parser in action.choices.items()]
        if not inner:
            yield name, parser


PARSERS = dict(parsers())


def flags(parser: ArgumentParser) -> Iterator[tuple[str, argparse.Action]]:
    for action in parser._actions:
        for option in action.option_strings:
            if option.startswith("--"):
                yield option, action


FLAGS = {
    "tascnet data augment": "output samples",
    "tascnet data check": "exif form format images on_bad_sample output overlaps split version",
    "tascnet data convert": "exif form format group_by images num_images on_bad_sample output overlaps photos split "
    "version",
    "tascnet data stats": "exif form format group_by images num_images on_bad_sample output overlaps split version",
    "tascnet demo": "minutes output steps",
    "tascnet evaluate": "device on_bad_sample output use",
    "tascnet info": "environment height stuff things use width",
    "tascnet metrics": "annotation_folder missing on_bad_sample output prediction_folder workers",
    "tascnet plot": "metrics output",
    "tascnet predict": "batch_size benchmark device image_info names on_bad_sample output use weights",
    "tascnet runs": "json sort",
    "tascnet share": "licence precision push use",
    "tascnet train": "config device devices init output print_config resume",
    "tascnet triage": "batch_size device on_bad_sample output shown use weights",
    "tascnet weights get": "",
    "tascnet weights list": "",
}
"""All flags but those of settings, which have the names of the settings."""


def parsed(*arguments: str) -> dict[str, object]:
    return build_parser(cli.VERBS).parse_args(list(arguments)).as_dict()


def test_all_verbs_and_actions_are_found():
    assert {"tascnet train", "tascnet triage", "tascnet data convert", "tascnet weights get"} <= set(PARSERS)
    assert len(PARSERS) == 16


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_each_verb_has_these_flags(name: str):
    groups = {flag[2:].partition(".")[0] for flag, _ in flags(PARSERS[name]) if "." in flag}  # --data FILE, and so on
    found = {flag[2:] for flag, _ in flags(PARSERS[name]) if "." not in flag} - groups - {"help"}
    assert sorted(found) == FLAGS[name].split()


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_each_flag_is_found_with_dashes(name: str, capsys: pytest.CaptureFixture[str]):
    parser = PARSERS[name]
    for flag in dict(flags(parser)):
        if "_" in flag and flag != "--print_config":
            with pytest.raises(SystemExit):
                parser.parse_args([f"--{flag[2:].replace('_', '-')}"])
            error = capsys.readouterr().err.splitlines()[-1]
            assert flag in error, flag
            assert "expected " in error, flag  # its value; so the flag is known


@pytest.mark.parametrize(
    ("written", "same"),
    [
        (
            [
                "predict",
                "a-b.png",
                "--output",
                "c-d",
                "--batch-size",
                "3",
                "--on-bad-sample",
                "fail",
                "--image-info=e-f",
            ],
            [
                "predict",
                "a-b.png",
                "--output",
                "c-d",
                "--batch_size",
                "3",
                "--on_bad_sample",
                "fail",
                "--image_info=e-f",
            ],
        ),
        (
            ["evaluate", "run", "--data.group-by", "x-y", "--fusion.min-stuff_area", "3", "--fusion.mask_threshold=.3"],
            ["evaluate", "run", "--data.group_by", "x-y", "--fusion.min_stuff_area", "3", "--fusion.mask_threshold=.3"],
        ),
        (
            [
                "train",
                "--training.max-minutes",
                "2",
                "--model.backbone.added-channels=64",
                "--loss.tasc-warmup_steps=7",
            ],
            [
                "train",
                "--training.max_minutes",
                "2",
                "--model.backbone.added_channels=64",
                "--loss.tasc_warmup_steps=7",
            ],
        ),
        (
            ["data", "stats", "a", "--on-bad-sample", "fail", "--group-by", "x-y"],
            ["data", "stats", "a", "--on_bad_sample", "fail", "--group_by", "x-y"],
        ),
    ],
)
def test_dashes_and_underscores_mean_the_same(written: list[str], same: list[str]):
    result = parsed(*written)
    assert result == parsed(*same)
    assert result != parsed(*written[: -2 if "=" not in written[-1] else -1])  # the last flag was not passed over


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (["predict", "a", "b.png", "--output", "o", "--batch", "3"], "--batch_size"),
        (["predict", "a", "b.png", "--output", "o", "--batch-siz=3"], "--batch_size"),
        (["predict", "a", "b.png", "--out", "o"], "--output"),
        (["train", "--training.step", "3"], "--training.steps"),
        (["train", "--training.max-minute", "3"], "--training.max_minutes"),
        (["train", "--res", "run"], ""),
        (["evaluate", "run", "--fusion.over=0.5"], ""),
        (["runs", "--js"], "--json"),
        (["data", "augment", "c.yaml", "--output", "o.png", "--sample", "3"], "--samples"),
        (["--vers"], "--version"),
    ],
)
def test_abbreviations_are_refused(tascnet: Callable[..., Said], arguments: list[str], near: str):
    said = tascnet(*arguments)
    assert said.code == 2
    assert "Traceback" not in said.err
    assert (f"; is {near} meant?" if near else "error: ") in said.err


def test_a_flag_has_one_meaning_one_default_and_one_help_in_all_verbs():
    meanings = defaultdict(dict)
    for name, parser in PARSERS.items():
        for flag, action in flags(parser):
            if "." not in flag and flag[2:] not in NOT_SHARED:
                kind = getattr(action, "_typehint", None) or action.type or type(action)
                choices = tuple(action.choices or ())
                meanings[flag][name] = (str(kind), choices, action.default, action.help)
    shared = {flag: by_verb for flag, by_verb in meanings.items() if len(by_verb) > 1}
    assert {"--use", "--weights", "--batch_size", "--on_bad_sample", "--device"} <= set(shared)
    # the one flag of a training that is a setting, and so has the setting's names and no default of its own
    by_training = shared["--device"].pop("tascnet train")
    assert "auto" in by_training[0]
    assert by_training[3].endswith(f": {shared['--device']['tascnet predict'][3]}")
    for flag, by_verb in shared.items():
        assert len(set(map(repr, by_verb.values()))) == 1, f"{flag}: {by_verb}"


def test_device_of_a_training_is_its_accelerator():
    streets = ["train", "--data.train.num_images=1", "--data.val.num_images=1", "--training.accelerator=cpu"]
    for flags_of_train, accelerator in ((streets, "cpu"), ([*streets, "--device", "mps"], "mps")):
        options = build_parser(cli.VERBS).parse_args(flags_of_train)
        assert config_of(options.train).training.accelerator == accelerator


class TestVersion:
    def test_of_the_command(self, tascnet: Callable[..., Said]):
        assert tascnet("--version") == Said(0, f"tascnet {package.__version__}\n", "")

    def test_is_written_in_one_place(self):
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        assert "version" not in project["project"]
        assert project["project"]["dynamic"] == ["version"]
        assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "tascnet.__version__"}

    def test_of_the_citation_and_of_the_changelog_is_the_same(self):
        assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == package.__version__
        headings = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
        assert headings[0].split()[1] == package.__version__
