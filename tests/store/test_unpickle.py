"""Files from strangers: what they hold is read, and nothing in them runs."""

from __future__ import annotations

import datetime
import io
import pickle
import struct
import zipfile
from argparse import Namespace
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch

from dsgcli.errors import ModelCorruptError, ModelMismatchError, ModelMissingError
from dsgcli.store.unpickle import read_checkpoint, read_code_names, read_codes


class Evil:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.target), "w")


def npy_of(pickled: bytes) -> bytes:
    """A .npy around any pickle, as numpy.save writes it around a dict."""
    file = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": ()}
    np.lib.format.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call]
    return file.getvalue() + pickled


def boxed(content: Any) -> np.ndarray:
    box = np.empty((), dtype=object)
    box[()] = content
    return box


TABLE = {
    "b.jpg": np.arange(32, dtype=np.float32).reshape(1, 8, 4),
    "a.jpg": np.ones((1, 8, 4), np.float32),
}

# ── malicious files ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_checkpoint_with_code_is_refused_and_does_not_run(tmp_path, legacy):
    mark, path = tmp_path / "ran", tmp_path / "generator.pt"
    content = {"g_ema": {"a": torch.zeros(2)}, "args": Evil(mark)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ModelCorruptError, match=r"generator\.pt was not opened.*run code.*open"):
        read_checkpoint(path)
    assert not mark.exists()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("inside", [True, False], ids=["in the dict", "instead of the dict"])
def test_codes_with_code_are_refused_and_do_not_run(tmp_path, protocol, inside):
    mark, path = tmp_path / "ran", tmp_path / "exstyle_code.npy"
    content = boxed({**TABLE, "c.jpg": Evil(mark)}) if inside else Evil(mark)
    path.write_bytes(npy_of(pickle.dumps(content, protocol=protocol)))
    for read in (read_codes, read_code_names):
        with pytest.raises(ModelCorruptError, match=r"exstyle_code\.npy was not opened.*run code"):
            read(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "name",
    ["os system", "builtins eval", "numpy fromfile", "numpy.core.multiarray fromfile", "dsgcli x"],
)
def test_codes_admit_no_name_but_those_they_need(tmp_path, name):
    path = tmp_path / "codes.npy"
    path.write_bytes(npy_of(b"\x80\x02c" + name.replace(" ", "\n").encode() + b"\n."))
    with pytest.raises(ModelCorruptError, match=name.replace(" ", r"\.")):
        read_codes(path)


@pytest.mark.parametrize(
    "opcodes",
    [
        b"cnumpy\ndtype\n}X\x08\x00\x00\x00__init__X\x01\x00\x00\x00xsb.",  # state on a class
        b"(inumpy\ndtype\n.",  # INST
        b"\x82\x01.",  # EXT1
        b"X\x01\x00\x00\x00aQ.",  # BINPERSID
        b"r\xff\xff\xff\xff.",  # a memo of 4 G entries, of an empty stack
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # bytes of 8 EB
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(J\xff\xff\xff\x7ftX\x01\x00\x00\x00dtR.",
        b"]" * 5,
        b"",
    ],
)
def test_codes_of_broken_pickles_are_refused(tmp_path, opcodes):
    path = tmp_path / "codes.npy"
    path.write_bytes(npy_of(b"\x80\x02" + opcodes))
    with pytest.raises((ModelCorruptError, ModelMismatchError)):
        read_codes(path)


def test_array_larger_than_its_bytes_is_refused(tmp_path):
    path = tmp_path / "codes.npy"
    raw = pickle.dumps(boxed({"a": np.zeros((1, 8, 4), np.float32)}), protocol=2)
    shape = b"K\x01K\x08K\x04\x87"
    assert shape in raw
    path.write_bytes(npy_of(raw.replace(shape, b"K\x01J\xff\xff\xff\x7fK\x04\x87")))
    with pytest.raises(ModelCorruptError, match="cannot be read as a file of codes"):
        read_codes(path)


# ── what is read ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_codes_are_read_in_the_order_of_the_file(tmp_path, protocol, module):
    """NumPy 2 spells its module with an underscore, and writes protocol 4."""
    written = pickle.dumps(boxed(TABLE), protocol=protocol)
    known = b"numpy._core.multiarray" if b"numpy._core" in written else b"numpy.core.multiarray"
    if protocol == 4:  # length-prefixed names, within one frame
        written = written.replace(bytes([len(known)]) + known, bytes([len(module)]) + module)
        size = struct.unpack("<Q", written[3:11])[0] + len(module) - len(known)
        written = written[:3] + struct.pack("<Q", size) + written[11:]
    else:
        written = written.replace(known, module)
    path = tmp_path / "exstyle_code.npy"
    path.write_bytes(npy_of(written))
    codes = read_codes(path)
    assert list(codes) == ["b.jpg", "a.jpg"]
    np.testing.assert_array_equal(codes["b.jpg"], TABLE["b.jpg"][0])
    assert read_code_names(path) == (("b.jpg", "a.jpg"), (8, 4))


def test_codes_as_numpy_saves_them_are_read(tmp_path):
    path = tmp_path / "exstyle_code.npy"
    np.save(path, TABLE)  # type: ignore[arg-type]
    np.testing.assert_array_equal(read_codes(path)["a.jpg"], TABLE["a.jpg"][0])


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_checkpoint_with_options_and_numpy_numbers_is_read(tmp_path, legacy):
    path = tmp_path / "encoder.pt"
    content = {
        "g_ema": {"w": torch.arange(6.0).reshape(2, 3)},
        "args": Namespace(lr=0.002, device="cuda"),
        "ada_aug_p": np.float64(0.25),
        "count": np.int64(7),
    }
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    read = read_checkpoint(path)
    assert torch.equal(read["g_ema"]["w"], content["g_ema"]["w"])
    assert read["args"].device == "cuda"
    assert (read["ada_aug_p"], read["count"]) == (0.25, 7)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_options_of_any_class_are_passed_over(tmp_path, legacy):
    path = tmp_path / "generator-001500.pt"
    content = {
        "g_ema": {"w": torch.arange(6.0).reshape(2, 3)},
        "args": Namespace(out=Path("/data/out"), at=[PurePosixPath("a"), Fraction(1, 3)]),
        "g_optim": {"state": {}, "when": datetime.date(2022, 3, 1)},
    }
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    read = read_checkpoint(path)
    assert torch.equal(read["g_ema"]["w"], content["g_ema"]["w"])
    assert not isinstance(read["args"].out, Path)  # nothing of the class was made


# ── damaged files ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_checkpoint_is_corrupt(tmp_path, legacy, share):
    path = tmp_path / "generator.pt"
    torch.save({"g_ema": {"w": torch.randn(900)}}, path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelCorruptError, match=r"generator\.pt is incomplete or damaged"):
        read_checkpoint(path)


def test_packed_archive_is_refused_before_it_is_unpacked(tmp_path):
    path = tmp_path / "generator.pt"
    torch.save({"w": torch.zeros(100_000)}, path)
    packed = tmp_path / "packed.pt"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out:
        for name in source.namelist():
            out.writestr(name, source.read(name))
    with pytest.raises(ModelCorruptError, match="packed archive"):
        read_checkpoint(packed)


def test_tensor_larger_than_its_file_is_refused(tmp_path):
    """A stride of zero makes a tensor of any size from four bytes."""
    path = tmp_path / "generator.pt"
    torch.save({"g_ema": {"w": torch.zeros(1).expand(1 << 40)}}, path)
    with pytest.raises(ModelCorruptError, match="cannot be in it"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello, this is no model\n" * 9, "is a text file"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer"),
        (pickle.dumps({"a": 1}), "never opened"),
        (bytes(range(200, 250)) * 4, "no model file"),
    ],
)
def test_file_of_something_else_is_named(tmp_path, content, message):
    path = tmp_path / "generator.pt"
    path.write_bytes(content)
    with pytest.raises(ModelCorruptError, match=message):
        read_checkpoint(path)


def test_folder_and_missing_file_are_missing(tmp_path):
    with pytest.raises(ModelMissingError, match="is a folder"):
        read_checkpoint(tmp_path)
    with pytest.raises(ModelMissingError, match="does not exist"):
        read_codes(tmp_path / "none.npy")


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ({}, ModelMismatchError, "no codes"),
        ({"a": np.zeros((1, 8, 4)), "b": np.zeros((1, 8, 5))}, ModelMismatchError, "different siz"),
        ({"a": np.zeros(4, np.float32)}, ModelMismatchError, "no codes"),
        ({"a": np.full((1, 8, 4), np.nan)}, ModelCorruptError, "not finite.*'a'"),
        ({"a": "text"}, ModelMismatchError, "no dict of exemplar names"),
        ([1, 2], ModelMismatchError, "no dict of exemplar names"),
    ],
)
def test_codes_that_are_none_say_so(tmp_path, content, error, message):
    path = tmp_path / "exstyle_code.npy"
    np.save(path, boxed(content))
    with pytest.raises(error, match=message):
        read_codes(path)


def test_plain_array_is_no_file_of_codes(tmp_path):
    path = tmp_path / "exstyle_code.npy"
    np.save(path, np.zeros((3, 8, 4), np.float32))
    with pytest.raises(ModelCorruptError, match="without names"):
        read_codes(path)


@pytest.mark.parametrize("kind", ["zip", "legacy", "npy"])
def test_flipped_bytes_are_read_or_refused_and_never_a_traceback(tmp_path, kind):
    """Whatever is wrong with a file, it is one of our errors."""
    path = tmp_path / ("codes.npy" if kind == "npy" else "generator.pt")
    if kind == "npy":
        np.save(path, TABLE)  # type: ignore[arg-type]
    else:
        content = {"g_ema": {"w": torch.randn(9, 3)}, "p": np.float64(1), "args": Namespace(a=1)}
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    whole, rng = path.read_bytes(), np.random.default_rng(3)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(150):
        flipped = bytearray(whole)
        for place in rng.integers(len(flipped), size=rng.integers(1, 4)):
            flipped[place] = rng.integers(256)
        path.write_bytes(flipped)
        try:
            (read_codes if kind == "npy" else read_checkpoint)(path)
            outcomes["read"] += 1
        except (ModelCorruptError, ModelMismatchError):
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 5, outcomes
