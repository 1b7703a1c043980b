"""Pickles of arrays are read, equal to pickle's own reading; all else is refused and does not run."""

import builtins
import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tascnet.networks.foreign.unpickle import ForbiddenError, read_pickle


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(3, 2)),
        np.array([1, -2], dtype=">i8"),
        np.array([True, False]),
        np.zeros((0, 4), np.float16),
        np.array(3, np.uint8),
    ],
    ids=lambda array: f"{array.dtype.str}-{array.shape}",
)
def test_arrays_of_all_protocols(array: np.ndarray, protocol: int) -> None:
    read = read_pickle(pickle.dumps({"a": array}, protocol))["a"]
    assert read.dtype == array.dtype.newbyteorder("=")
    assert read.shape == array.shape
    assert np.array_equal(read, array)
    read[...] = 0  # can be written to


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_containers_and_plain_values(protocol: int) -> None:
    value = OrderedDict(
        a=[1, 2.5, None, True], b=("text", b"bytes\xff"), c={3: {"x"}, "d": frozenset({1})}, n=np.float32(0.5)
    )
    read = read_pickle(pickle.dumps(value, protocol))
    assert read == value
    assert type(read) is OrderedDict
    assert type(read["n"]) is np.float32


def test_arrays_of_python_2() -> None:
    """Its pickles hold the bytes of arrays as text, and `numpy.core` where numpy 2 says `numpy._core`."""
    content = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\nt"
        b"cnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntbI00\nS'\\xff\\x01'\ntb."
    )
    assert read_pickle(content).tolist() == [255, 1]
    assert pickle.loads(content, encoding="latin1").tolist() == [255, 1]


class Calls:
    """Pickles itself as a call."""

    def __init__(self, function: Any, *arguments: Any):
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


@pytest.fixture
def witness(tmp_path: Path) -> Path:
    return tmp_path / "it_ran"


def attacks(witness: Path) -> dict[str, bytes]:
    """Pickles that make the witness when Python's own reader reads them; and some that want less, or more."""
    code = f"open({str(witness)!r}, 'w').close()"
    chain = b"".join(  # getattr(os, 'system')(command), name by name
        (
            b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'system'\ntR(S'touch ",
            str(witness).encode(),
            b"'\ntR.",
        )
    )
    through_numpy = b"".join(  # a name with a dot: numpy's way to a file
        (b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93(cnumpy\narray\n(I1\ntRS'", str(witness).encode(), b"'\ntR.")
    )
    return {
        "os.system": pickle.dumps(Calls(os.system, f"touch {witness}")),
        "eval": pickle.dumps(Calls(builtins.eval, code), 0),
        "exec inside weights": pickle.dumps({"model": {"w": np.ones(2), "x": Calls(builtins.exec, code)}}),
        "open": pickle.dumps(Calls(builtins.open, str(witness), "w"), 4),
        "getattr chain": chain,
        "a method of numpy's arrays": through_numpy,
        "numpy.memmap": pickle.dumps(Calls(np.memmap, str(witness), "u1", "w+", 0, (4,))),
        "an instance": f"(S'{witness}'\nS'w'\nibuiltins\nopen\n.".encode(),
    }


KINDS = list(attacks(Path("x")))


@pytest.mark.parametrize("kind", KINDS)
def test_malicious_pickles_do_not_run(kind: str, witness: Path) -> None:
    content = attacks(witness)[kind]
    with pytest.raises(ForbiddenError, match="it wants "):
        read_pickle(content)
    assert not witness.exists()
    pickle.loads(content)  # the attack is a real one: Python's own reader falls for it
    assert witness.exists()


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(np.array([{"a": 1}, None], dtype=object)),
        pickle.dumps(np.array(["a"])),
        pickle.dumps(np.zeros(2, dtype=[("x", "f4"), ("y", "O")])),
        pickle.dumps(np.datetime64("2020-01-01")),
        b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR.",  # a type alone
        b"cnumpy.core.multiarray\n_reconstruct\n(NNNtR(I1\n(I1\ntNI00\nS'aaaa'\ntb.",  # no type
        b"Pelsewhere\n.",  # a persistent id
        b"\x80\x02\x82\x01.",  # an extension of copyreg's registry
    ],
    ids=["objects", "text", "records", "date", "type alone", "no type", "persistent id", "extension"],
)
def test_what_weights_have_no_use_for(content: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError):
        read_pickle(content)


def test_an_array_that_claims_more_than_its_bytes() -> None:
    content = pickle.dumps(np.zeros((2, 3), np.float32), 2)
    larger = content.replace(b"K\x02K\x03\x86", b"K\x02K\x09\x86")
    assert larger != content
    with pytest.raises(pickle.UnpicklingError, match=r"shape \(2, 9\) does not have the bytes"):
        read_pickle(larger)


def test_a_pickle_cannot_change_what_the_next_one_meets() -> None:
    """BUILD on a stand-in sets attributes of it; numpy.dtype must be as it was."""
    poison = b"cnumpy\ndtype\n(N(dS'__defaults__'\n(S'O8'\ntstb."
    with pytest.raises(pickle.UnpicklingError):
        read_pickle(poison)
    assert read_pickle(pickle.dumps(np.ones(2))).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04", b"\x80\x04]q\x00h\x05.", b"no pickle", pickle.dumps([1, 2])[:-3]]
)
def test_damaged(content: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError):
        read_pickle(content)


def test_a_list_that_holds_itself() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(pickle.UnpicklingError, match="a container that is inside of itself"):
        read_pickle(pickle.dumps(endless))


def test_bytes_stay_what_they_are() -> None:
    value = struct.pack("<d", 1.5)
    assert read_pickle(pickle.dumps(value, 2)) == value


def _operations(*parts: bytes) -> bytes:
    return b"\x80\x02" + b"".join(parts) + b"."


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        (_operations(b"]r", (0x0F000000).to_bytes(4, "little")), "numbers its values up to 251658240"),
        (b"(dp4000000000\n.", "numbers its values up to 4000000000"),
        (_operations(b"}", b")", b"\x85" * 100_000, b"K\x01s"), "nested more than 50 levels"),
        (_operations(b"]q\x00", b"h\x00a"), "inside of itself"),
        (b"\x80\x04" + b"\x8f" * 600_000 + b".", "more than 500,000 steps"),
        (b"\x80\x05\x96" + (10 << 30).to_bytes(8, "little") + b".", "only 1 remain"),
        (
            _operations(
                b"c_codecs\nencode\nq\x00X",
                (10**5).to_bytes(4, "little"),
                b"x" * 10**5,
                b"q\x01](" + b"h\x00h\x01\x85R" * 500 + b"e",
            ),
            "many times larger than the file",
        ),
    ],
    ids=["memo", "memo-text", "tuples", "itself", "steps", "bytearray", "copies"],
)
def test_a_few_bytes_that_ask_for_much(content: bytes, finding: str) -> None:
    with pytest.raises(pickle.UnpicklingError, match=finding):
        read_pickle(content)


def test_shared_values_are_converted_once() -> None:
    nested: list[Any] = []
    for _ in range(40):
        nested = [nested, nested]  # 2 ** 40 lists, if each were converted
    found = read_pickle(pickle.dumps(nested, protocol=2))
    assert found[0] is found[1]
    with pytest.raises(pickle.UnpicklingError, match="it holds an array of type"):
        read_pickle(_operations(b"cnumpy\ndtype\n", pickle.dumps(nested, protocol=2)[2:-1], b"\x85R"))
