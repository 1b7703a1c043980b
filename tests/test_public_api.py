"""The public names are frozen: adding or removing one is a decision, made here and in the changelog."""

import subprocess
import sys

import pytest

import tascnet
import tascnet.convert

PUBLIC = {
    "Category",
    "CocoPanoptic",
    "InputError",
    "LabelSpace",
    "Network",
    "PanopticQuality",
    "PanopticSegmentation",
    "Predictor",
    "Segment",
    "Streets",
    "TASCNet",
    "draw_segmentation",
    "from_pretrained",
    "open_network",
    "push_network",
    "save_network",
}


def test_public_names_are_these():
    assert set(tascnet.__all__) == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_public_names_can_be_reached(name):
    assert getattr(tascnet, name).__name__ == name
    assert name in dir(tascnet)


def test_names_of_convert_are_pairs():
    forms = ("coco", "huggingface", "label_map", "numpy", "supervision")
    assert set(tascnet.convert.__all__) == {f"{way}_{form}" for way in ("from", "to") for form in forms}


def test_other_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'Detector'"):
        _ = tascnet.Detector


def test_importing_the_package_and_the_command_line_loads_no_torch():
    code = "import sys, tascnet, tascnet.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
