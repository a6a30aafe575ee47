"""Read the pickles that published files are, without running what a stranger may have put there.

Two kinds occur. Checkpoints (`.pt`, `.pth`) go through `torch.load(weights_only=True)`, with the
few classes that published ones hold besides tensors. Codes (`.npy`: a pickled dict of str ->
float32 array, saved by `numpy.save`) go through an unpickler of a handful of opcodes and names.

Wherever a file names something of NumPy, a stand-in of this module is used in its place: the names
are admitted, NumPy's own constructors (which trust the sizes they are given) are not reached.

Memory is bounded by the file: nothing is built that is larger than the bytes there are.
"""

from __future__ import annotations

import argparse
import io
import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from dsgcli.errors import ModelCorruptError, ModelMismatchError
from dsgcli.store.files import file_format, require_file

if TYPE_CHECKING:
    from torch import Tensor

# ── stand-ins for NumPy's names ──────────────────────────────────────────────────────────────────

_NUMBER_CODES = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"})


class _Dtype:
    """Stands for `numpy.dtype`: a type of numbers, or objects (the box around the dict)."""

    __slots__ = ("code", "order")

    def __init__(self, code: str, align: object = False, copy: object = True) -> None:
        if code not in _NUMBER_CODES and code not in {"O", "O8"}:
            raise pickle.UnpicklingError(f"an array of type {code!r}")
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] not in {"<", ">", "|", "="} or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("an array of records")
        self.order = state[1]

    def numpy(self) -> np.dtype[Any]:
        if self.code not in _NUMBER_CODES:
            raise pickle.UnpicklingError("an array of objects among the numbers")
        return np.dtype(self.order + self.code if self.order in "<>" else self.code)


class _Array:
    """Stands for `numpy._reconstruct(ndarray, shape, type)`; its content comes with its state."""

    __slots__ = ("items", "raw", "shape", "type")

    def __init__(self, kind: object, shape: object, type_code: object) -> None:
        self.items: list[Any] | None = None
        self.raw, self.type = b"", _Dtype("f4")
        self.shape: tuple[int, ...] = (0,)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _Dtype) or fortran not in (False, 0):
            raise pickle.UnpicklingError("an array in an unusual layout")
        if not isinstance(shape, tuple) or not all(
            type(side) is int and side >= 0 for side in shape
        ):
            raise pickle.UnpicklingError("an array without a shape")
        self.type, self.shape = dtype, shape
        if isinstance(content, list):
            self.items = content
        elif math.prod(shape) * dtype.numpy().itemsize == len(content):
            self.raw = bytes(content)
        else:
            raise pickle.UnpicklingError(f"an array of {shape} in {len(content)} bytes")

    def numbers(self) -> NDArray[np.float32]:
        """The array itself."""
        flat = np.frombuffer(self.raw, self.type.numpy())
        return flat.reshape(self.shape).astype(np.float32)


def _scalar(dtype: _Dtype, raw: bytes) -> Any:
    """Stands for `numpy.core.multiarray.scalar`: a number, as a plain Python one."""
    return np.frombuffer(raw, dtype.numpy(), count=1)[0].item()


def _latin1(text: str, encoding: str) -> bytes:
    """Stands for `_codecs.encode`, which old pickles use to write bytes."""
    if encoding not in {"latin1", "latin-1"}:
        raise pickle.UnpicklingError(f"text in {encoding!r}")
    return text.encode("latin-1")


# ── codes: .npy ──────────────────────────────────────────────────────────────────────────────────

_CODE_NAMES: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _latin1,
}

_OPCODES = (
    *(pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.REDUCE),
    *(pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINBYTES, pickle.SHORT_BINBYTES),
    *(pickle.BINBYTES8, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.BININT),
    *(pickle.BININT1, pickle.BININT2, pickle.MARK, pickle.EMPTY_TUPLE, pickle.TUPLE),
    *(pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.EMPTY_LIST, pickle.APPEND),
    *(pickle.APPENDS, pickle.EMPTY_DICT, pickle.SETITEM, pickle.SETITEMS, pickle.BINPUT),
    *(pickle.LONG_BINPUT, pickle.MEMOIZE, pickle.BINGET, pickle.LONG_BINGET),
)


class _ForbiddenNameError(pickle.UnpicklingError):
    """The pickle names something that codes have no need of."""


class _CodesUnpickler(pickle._Unpickler):
    """The unpickler written in Python: its memo grows with the file, whatever the file says."""

    dispatch: ClassVar = {code[0]: pickle._Unpickler.dispatch[code[0]] for code in _OPCODES}

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _CODE_NAMES[module, name]
        except KeyError:
            raise _ForbiddenNameError(f"{module}.{name}") from None

    def load_build(self) -> None:
        if type(self.stack[-2]) not in {_Array, _Dtype}:  # type: ignore[attr-defined]
            raise pickle.UnpicklingError("a state for what has none")
        pickle._Unpickler.dispatch[pickle.BUILD[0]](self)  # type: ignore[arg-type]

    dispatch[pickle.BUILD[0]] = load_build  # type: ignore[assignment]


def read_codes(path: Path) -> dict[str, NDArray[np.float32]]:
    """Codes by exemplar, in the file's own order: published numbers of exemplars mean that order.

    Args:
        path: `exstyle_code.npy` and its kind: a dict of file name -> float32 (1, L, D) or (L, D).

    Returns:
        Name -> (L, D) float32.

    Raises:
        ModelMissingError: no such file. ModelCorruptError: unreadable, code to run, or not finite.
        ModelMismatchError: a file of something else.
    """
    boxed = {name: array.numbers() for name, array in _read_boxed(path).items()}
    codes = {name: code[0] if code.ndim == 3 else code for name, code in boxed.items()}
    if not codes or any(code.ndim != 2 for code in codes.values()):
        raise ModelMismatchError(f"{path} holds no codes of exemplars (arrays of 1 x rows x width)")
    if len({code.shape for code in codes.values()}) > 1:
        raise ModelMismatchError(f"{path} mixes codes of different sizes; it is no one style's")
    if bad := [name for name, code in codes.items() if not np.isfinite(code).all()]:
        raise ModelCorruptError(
            f"{path} holds numbers that are not finite, first for exemplar {bad[0]!r}; "
            f"fetch or compute it again"
        )
    return codes


def read_code_names(path: Path) -> tuple[tuple[str, ...], tuple[int, int]]:
    """Names of the exemplars, in the file's order, and the shape (L, D) of one code.

    Raises: as `read_codes`, but the numbers themselves are not looked at.
    """
    boxed = _read_boxed(path)
    shape: tuple[int, ...] = next((array.shape for array in boxed.values()), ())
    if len(shape) not in (2, 3):
        raise ModelMismatchError(f"{path} holds no codes of exemplars")
    return tuple(boxed), (shape[-2], shape[-1])


def _read_boxed(path: Path) -> dict[str, _Array]:
    if file_format(path) != "npy":
        raise ModelMismatchError(f"{path} is no file of codes (a .npy of a dict)")
    try:
        content = _unbox(path.read_bytes())
    except _ForbiddenNameError as error:
        raise _code_refused(path, str(error)) from None
    except Exception as error:  # whatever a broken pickle makes its reader stumble over
        raise ModelCorruptError(
            f"{path} cannot be read as a file of codes ({_brief(error)}); fetch it again"
        ) from error
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(array, _Array) for name, array in content.items()
    ):
        raise ModelMismatchError(f"{path} holds no dict of exemplar names and codes")
    return content


def _unbox(data: bytes) -> Any:
    """The object inside a 0-dimensional object array, as `numpy.save` writes a dict."""
    file = io.BytesIO(data)
    form: Any = np.lib.format
    old = form.read_magic(file) == (1, 0)
    shape, _, dtype = (form.read_array_header_1_0 if old else form.read_array_header_2_0)(file)
    if shape != () or dtype != np.dtype(object):
        raise pickle.UnpicklingError("a plain array, without names")
    box = _CodesUnpickler(file).load()
    if not isinstance(box, _Array) or box.items is None or len(box.items) != 1:
        raise pickle.UnpicklingError("not what numpy.save writes")
    return box.items[0]


# ── checkpoints: .pt, .pth ───────────────────────────────────────────────────────────────────────


def read_checkpoint(path: Path) -> Any:
    """Whatever a checkpoint holds: dicts, lists, numbers, strings, Namespaces and CPU tensors.

    Tensors of zip files are mapped, so that only what is used is read from the disk.

    Raises:
        ModelMissingError: no such file. ModelCorruptError: truncated, or code to run.
        ModelMismatchError: a file of another format.
    """
    kind, size = file_format(path), require_file(path)
    if kind not in {"torch-zip", "torch-legacy"}:
        raise ModelMismatchError(f"{path} is no checkpoint but a file of another kind ({kind})")
    if kind == "torch-zip":
        _check_archive(path)
    content = _load(path, mapped=kind == "torch-zip")
    _check_tensors(path, content, size)
    return content


def _check_archive(path: Path) -> None:
    """A checkpoint stores its parts as they are; a packed part could unpack to any size."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except Exception as error:  # of many kinds, for a directory that is not whole
        raise ModelCorruptError(
            f"{path} is incomplete or damaged ({_brief(error)}); fetch it again"
        ) from error
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise ModelCorruptError(
            f"{path} is a packed archive, which no checkpoint is; unpack it if it holds one"
        )


class _Placeholder:
    """Stands for an object of a class that no model needs, such as a path among the options of a
    run: it takes whatever the file gives it, keeps nothing and does nothing."""

    __slots__ = ()

    def __new__(cls, *_: object, **__: object) -> _Placeholder:
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass

    def __hash__(self) -> int:
        return id(self)


_CODE_MODULES = frozenset(
    {
        "builtins",
        "__builtin__",
        "io",
        "_io",
        "os",
        "posix",
        "nt",
        "sys",
        "subprocess",
        "shutil",
        "pty",
        "socket",
        "runpy",
        "importlib",
        "ctypes",
        "code",
        "codeop",
        "commands",
        "functools",
        "operator",
        "types",
        "marshal",
        "pickle",
        "_pickle",
        "cloudpickle",
        "dill",
        "joblib",
        "webbrowser",
        "signal",
        "threading",
        "multiprocessing",
        "tempfile",
        "urllib",
        "http",
        "ftplib",
    }
)
"""Modules whose names in a checkpoint are there to run something: such a file is refused, though a
placeholder would do no harm, since its owner should know."""
_MOST_PLACEHOLDERS = 64


def _load(path: Path, *, mapped: bool) -> Any:
    """The content, with a placeholder for each object of a class that is not admitted.

    PyTorch's restricted unpickler names one such class at a time; nothing of it is imported.
    """
    import torch

    names: list[Any] = _checkpoint_names()
    for _ in range(_MOST_PLACEHOLDERS):
        try:
            with warnings.catch_warnings(), torch.serialization.safe_globals(names):
                warnings.simplefilter("ignore")
                return torch.load(str(path), map_location="cpu", weights_only=True, mmap=mapped)
        except Exception as error:  # whatever a broken file makes its reader stumble over
            named = re.search(r"GLOBAL\s+([\w.]+)", str(error))
            unknown = named[1].removesuffix(".") if named else ""
            if unknown and not _runs_code(unknown) and (_Placeholder, unknown) not in names:
                names.append((_Placeholder, unknown))
                continue
            if named or "reduce for unrecognized" in str(error):
                raise _code_refused(path, unknown or "a call") from None
            raise ModelCorruptError(
                f"{path} is incomplete or damaged ({_brief(error)}); fetch it again"
            ) from error
    raise ModelCorruptError(
        f"{path} names more than {_MOST_PLACEHOLDERS} classes, which no checkpoint does; get the "
        f"file from its publisher"
    )


def _runs_code(name: str) -> bool:
    """Whether a name, `module.attribute`, is one by which files run something."""
    return "." not in name or name.partition(".")[0] in _CODE_MODULES


def _checkpoint_names() -> list[Any]:
    """Objects in published checkpoints besides tensors and builtin containers: the options of the
    run that made them (a Namespace), and single numbers of NumPy."""
    return [
        argparse.Namespace,
        (_Dtype, "numpy.dtype"),
        (_scalar, "numpy.core.multiarray.scalar"),
        (_scalar, "numpy._core.multiarray.scalar"),
    ]


def _check_tensors(path: Path, content: Any, size: int) -> None:
    """A tensor that claims more bytes than its file has would take them from our memory."""
    import torch

    for tensor in tensors_in(content):
        plain = tensor.layout is torch.strided and not tensor.is_quantized
        if not plain or tensor.numel() * tensor.element_size() > size:
            raise ModelCorruptError(
                f"{path} describes a tensor that cannot be in it (shape {tuple(tensor.shape)}); "
                f"fetch it again"
            )


def tensors_in(content: Any) -> Iterator[Tensor]:
    """All tensors in nested containers, each once."""
    import torch

    seen: set[int] = set()
    pending = [content]
    while pending:
        item = pending.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, torch.Tensor):
            yield item
        elif isinstance(item, Mapping):
            pending.extend(item.values())
        elif isinstance(item, list | tuple | set):
            pending.extend(item)
        elif isinstance(item, argparse.Namespace):
            pending.extend(vars(item).values())


# ── messages ─────────────────────────────────────────────────────────────────────────────────────


def _code_refused(path: Path, named: str) -> ModelCorruptError:
    return ModelCorruptError(
        f"{path} was not opened: reading it would run code ({named}), and no model needs that; "
        f"get the file from its publisher, and compare its sha256"
    )


def _brief(error: BaseException) -> str:
    """One line of someone else's message; of torch's, the line with the reason in it."""
    told = str(error).partition("WeightsUnpickler error: ")[2] or str(error)
    first = told.strip().splitlines()
    return (first[0][:120].rstrip(" .") if first else "") or type(error).__name__
