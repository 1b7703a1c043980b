"""Evaluation mode ends with the block, and leaves no trace."""

import pytest
from torch import nn

from tascnet.model.mode import evaluation_mode


def network() -> nn.Sequential:
    """A network in training mode, of which one part inside another is frozen."""
    model = nn.Sequential(nn.BatchNorm2d(2), nn.Sequential(nn.BatchNorm2d(2), nn.Dropout()), nn.Dropout()).train()
    model[1][0].eval()
    return model


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def test_each_module_gets_its_own_mode_back():
    model = network()
    before = modes(model)
    assert before == [True, True, True, False, True, True]
    with evaluation_mode(model):
        assert not any(modes(model))
    assert modes(model) == before


def test_after_an_error_too():
    model = network()
    before = modes(model)
    with pytest.raises(ZeroDivisionError), evaluation_mode(model):
        raise ZeroDivisionError
    assert modes(model) == before


def test_blocks_within_each_other():
    model = network()
    before = modes(model)
    with evaluation_mode(model):
        with evaluation_mode(model):
            pass
        assert not any(modes(model))
    assert modes(model) == before


def test_a_part_that_trains_within_evaluation_mode():
    """A part in training mode below a whole in evaluation mode: Monte-Carlo dropout, for instance."""
    model = network().eval()
    model[2].train()
    with evaluation_mode(model):
        assert not any(modes(model))
    assert modes(model) == [False, False, False, False, False, True]
