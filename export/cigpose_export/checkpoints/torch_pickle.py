"""Reads the pickles in torch's files without running anything: the rules of `weights_only`.

A runner file holds more than weights: message hub, optimizer, schedulers. A pickle names what is to
be called to rebuild all of that. Here every name stands for something inert of our own that keeps
what is needed, mostly nothing; a name that is not in the list ends the reading. Unlike
`torch.load(weights_only=True)`, which knows the same rules, this allocates no storage, so that what
a file claims costs no memory.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import Any

import torch

from cigpose_export.checkpoints.stored import Storage, StoredTensor
from cigpose_export.checkpoints.unpickle import AGAIN, Function, Inert, call, unpickle
from cigpose_export.errors import CheckpointError
from cigpose_runtime.errors import quoted

SHADOWABLE = tuple(dir(dict))
"""Attributes that would stand in front of a dictionary's own."""


class Array(Inert):
    """Stands in for a numpy array or scalar; keeps what it was pickled with."""

    state: object = ()

    def __init__(self, *arguments: object) -> None:
        self.state = arguments

    def __setstate__(self, state: object) -> None:
        self.state = state


class DType(Inert):
    """Stands in for a numpy dtype; `code` is such as "f8"."""

    code: object = None

    def __init__(self, code: object = None, *_arguments: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] == ">":
            self.code = None  # big-endian


class OrderedDictionary(dict[Any, Any]):
    """Stands in for an OrderedDict, which may carry attributes (torch's have `_metadata`)."""

    def __init__(self) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        shadowed = [name for name in SHADOWABLE if isinstance(state, dict) and name in state]
        if shadowed:
            raise CheckpointError(
                "expected weights, found a dictionary that hides what is in it behind "
                f"{shadowed[0]!r} of its own; do not use the file"
            )


@dataclass(frozen=True)
class Latin1:
    """Bytes as protocol 2 writes them: text to be encoded."""

    text: object

    def __setstate__(self, _state: object) -> None: ...


def _tensor(
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    _requires_grad: object = False,
    _hooks: object = None,
    metadata: object = None,
) -> StoredTensor | Inert:
    if metadata:  # a conjugate or negative view
        return Inert()
    return StoredTensor(storage, offset, shape, strides)


def _same(value: Any, *_rest: object) -> Any:
    """A parameter is its tensor here; `torch.Size` is its tuple."""
    return value


def _of_type(function: Any, _type: object, arguments: Any, _state: object) -> Any:
    """A tensor with attributes, or of a type of its own, is the tensor."""
    return call(function, arguments)


_STORAGES = {
    f"torch.{name}Storage": dtype
    for name, dtype in {
        "Float": torch.float32,
        "Double": torch.float64,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
        "ComplexFloat": torch.complex64,
        "ComplexDouble": torch.complex128,
        "Untyped": torch.uint8,
        "QInt8": torch.int8,
        "QUInt8": torch.uint8,
        "QInt32": torch.int32,
    }.items()
}

_INERT = (
    "mmengine.logging.history_buffer.HistoryBuffer",
    "mmengine.config.config.ConfigDict",
    "mmengine.config.config.Config",
    "numpy.ndarray",
    "torch.device",
    "torch.strided",
    "torch.sparse_coo",
    "torch.Tensor",
    "torch.nn.parameter.Parameter",
    "torch.nn.parameter.Buffer",
    "torch.serialization._get_layout",
    "torch._utils._rebuild_tensor_v3",
    "torch._utils._rebuild_qtensor",
    "torch._utils._rebuild_sparse_tensor",
    "torch._utils._rebuild_nested_tensor",
    "torch._utils._rebuild_meta_tensor_no_storage",
    "torch._utils._rebuild_device_tensor_from_numpy",
    "collections.Counter",
    "collections.defaultdict",
    "collections.deque",
    "argparse.Namespace",
    "datetime.datetime",
    "datetime.timedelta",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "builtins.getattr",  # MMEngine pickles bound methods with it
    "builtins.set",
    "builtins.frozenset",
    "builtins.bytearray",
    "builtins.complex",
    "builtins.slice",
    "builtins.range",
    "builtins.int",  # what a defaultdict makes
    "builtins.list",
    *(
        str(value)
        for value in vars(torch).values()
        if isinstance(value, torch.dtype | torch.qscheme | torch.memory_format)
    ),
)

_STAND_INS: dict[str, Any] = {
    **dict.fromkeys(_INERT, Inert),
    **_STORAGES,
    "torch.storage.UntypedStorage": torch.uint8,
    "torch._utils._rebuild_tensor": Function(_tensor),
    "torch._utils._rebuild_tensor_v2": Function(_tensor),
    "torch._utils._rebuild_parameter": Function(_same),
    "torch._utils._rebuild_parameter_with_state": Function(_same),
    "torch._tensor._rebuild_from_type_v2": Function(_of_type),
    "torch.Size": Function(_same),
    "collections.OrderedDict": OrderedDictionary,
    "_codecs.encode": Function(lambda text, *_: Latin1(text)),
    "numpy.dtype": DType,
    **{
        f"numpy.{core}.multiarray.{name}": stand_in
        for core in ("core", "_core")  # before and since numpy 2
        for name, stand_in in (("_reconstruct", Function(lambda *_: Array())), ("scalar", Array))
    },
}


class Storages(dict[str, Storage]):
    """The storages that the tensors of one pickle name, by their keys."""

    def of(self, identifier: Any) -> Storage:
        """The storage of an identifier: kind, type, key, location, elements and, of old, a view.

        Raises `CheckpointError` for one of another form.
        """
        if not (isinstance(identifier, tuple) and len(identifier) in (5, 6)):
            raise CheckpointError(
                f"expected weights, found something else that lies beside them; {AGAIN}"
            )
        kind, dtype, key, _location, count, *view = identifier
        if kind == "module":
            raise CheckpointError(
                "expected weights, found a whole pickled model; save its state_dict() and pass that"
            )
        sound = (
            kind == "storage"
            and isinstance(dtype, torch.dtype)
            and type(key) is str
            and type(count) is int
            and count >= 0
            and view in ([], [None])
        )
        if not sound:
            raise CheckpointError(f"expected weights, found a storage of an unknown form; {AGAIN}")
        storage = self.setdefault(key, Storage(dtype, count))
        if (storage.dtype, storage.count) != (dtype, count):
            raise CheckpointError(
                f"expected one type and size of the storage {quoted(key)}, found two; {AGAIN}"
            )
        return storage


def load_pickle(data: mmap.mmap, start: int, end: int) -> tuple[Any, Storages, int]:
    """What the pickle at a position holds, which ends before another: content, storages, its end.

    Tensors come as `StoredTensor`, storages without their place. Raises `CheckpointError` for one
    that is damaged or names anything but weights.
    """
    storages = Storages()
    content, position = unpickle(data, start, end, names=_STAND_INS, persistent=storages.of)
    return content, storages, position
