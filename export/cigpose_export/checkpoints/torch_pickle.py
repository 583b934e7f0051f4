"""Reads the pickles in torch's files without running anything: the rules of `weights_only`.

A runner file holds more than weights: message hub, optimizer, schedulers. A pickle names what is to
be called to rebuild all of that. Here every name stands for something inert of our own that keeps
what is needed, mostly nothing; a name that is not in the list ends the reading before it begins.
Unlike `torch.load(weights_only=True)`, which knows the same rules, this allocates no storage, so
that what a file claims costs no memory.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any

import torch

from cigpose_export.checkpoints.stored import Storage, StoredTensor
from cigpose_export.errors import CheckpointError
from cigpose_runtime.errors import first_line, printable

MOST_OPERATIONS = 4_000_000
"""Of a pickle. A runner file with optimizer has 50,000; reading this many takes some 5 s."""

OPERATIONS = frozenset(
    """
    PROTO STOP GLOBAL REDUCE BUILD NEWOBJ BINPERSID MARK POP BINPUT LONG_BINPUT BINGET LONG_BINGET
    NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINSTRING
    EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS
    """.split()  # noqa: SIM905 - thirty quoted names are no easier to read
)
"""Those that `torch.load(weights_only=True)` knows: pickle's protocol 2, in which torch saves."""


class Inert:
    """Stands in for a type that inference has no use for; takes everything, keeps nothing."""

    def __new__(cls, *_arguments: object) -> Inert:
        return super().__new__(cls)

    def __setstate__(self, _state: object) -> None: ...

    def __setitem__(self, _key: object, _value: object) -> None: ...

    def append(self, _item: object) -> None:
        """Pickle fills lists, and what passes for one, by this name."""

    def extend(self, _items: object) -> None:
        """The same, several at once."""


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
        shadowed = [n for n in state if hasattr(dict, str(n))] if isinstance(state, dict) else []
        if shadowed:
            raise CheckpointError(
                "expected weights, found a dictionary that hides what is in it behind "
                f"{printable(str(shadowed[0]))!r} of its own; do not use the file"
            )


@dataclass(frozen=True)
class Latin1:
    """Bytes as protocol 2 writes them: text to be encoded."""

    text: object

    def __setstate__(self, _state: object) -> None: ...


class _Function:
    """What a file may call by name."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: object) -> Any:
        return self._function(*arguments)

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
    return StoredTensor(storage, offset, tuple(shape), tuple(strides))


def _same(value: Any, *_rest: object) -> Any:
    """A parameter is its tensor here; `torch.Size` is its tuple."""
    return value


def _of_type(function: Any, _type: object, arguments: Any, _state: object) -> Any:
    """A tensor with attributes, or of a type of its own, is the tensor."""
    return function(*arguments)


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
    "torch._utils._rebuild_tensor": _Function(_tensor),
    "torch._utils._rebuild_tensor_v2": _Function(_tensor),
    "torch._utils._rebuild_parameter": _Function(_same),
    "torch._utils._rebuild_parameter_with_state": _Function(_same),
    "torch._tensor._rebuild_from_type_v2": _Function(_of_type),
    "torch.Size": _Function(_same),
    "collections.OrderedDict": OrderedDictionary,
    "_codecs.encode": _Function(lambda text, *_: Latin1(text)),
    "numpy.dtype": DType,
    **{
        f"numpy.{core}.multiarray.{name}": stand_in
        for core in ("core", "_core")  # before and since numpy 2
        for name, stand_in in (("_reconstruct", _Function(lambda *_: Array())), ("scalar", Array))
    },
}


class TorchPickle(pickle.Unpickler):
    """One pickle out of a torch file; the storages that its tensors name are in `storages`."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.storages: dict[str, Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What stands in for a name."""
        return _STAND_INS[_full_name(module, name)]

    def persistent_load(self, identifier: Any) -> Storage:
        """The storage of an identifier: kind, type, key, location, elements and, of old, a view."""
        if not (isinstance(identifier, tuple) and len(identifier) in (5, 6)):
            raise CheckpointError("expected weights, found something else that lies beside them")
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
            raise CheckpointError("expected weights, found a storage of an unknown form")
        storage = self.storages.setdefault(key, Storage(dtype, count))
        if (storage.dtype, storage.count) != (dtype, count):
            raise CheckpointError(f"expected one type and size of the storage {printable(key)}")
        return storage


def load_pickle(data: bytes) -> tuple[Any, dict[str, Storage]]:
    """What a pickle holds, tensors as `StoredTensor`, and their storages by key, not placed yet.

    Raises `CheckpointError` for one that is damaged or names anything but weights.
    """
    reader = TorchPickle(data)
    try:
        return reader.load(), reader.storages
    except CheckpointError:
        raise
    except Exception as error:  # whatever a damaged pickle makes of our stand-ins
        raise CheckpointError(
            "expected a pickle of weights, found one that is damaged or asks for more "
            f"({_first_line(error)}); nothing of it was run: delete the file and fetch it again"
        ) from error


def pickle_size(stream: IO[bytes]) -> int:
    """The bytes of the pickle that begins here, looked through and not loaded.

    Raises `CheckpointError` for one that is damaged, too long, or asks for more than weights.
    """
    start = stream.tell()
    count = 0
    try:
        for operation, argument, _ in pickletools.genops(stream):
            count += 1
            _require_harmless(operation.name, argument, count)
    except (ValueError, IndexError, MemoryError) as error:
        raise CheckpointError(
            f"expected a pickle of weights, found a damaged one ({_first_line(error)}); "
            "delete the file and fetch it again"
        ) from error
    return stream.tell() - start


def _require_harmless(operation: str, argument: Any, count: int) -> None:
    if count > MOST_OPERATIONS:
        raise CheckpointError(
            f"expected at most {MOST_OPERATIONS} operations of a pickle, found more; keep only "
            "`meta` and `state_dict` in the file"
        )
    if operation == "GLOBAL":
        name = _full_name(*argument.split(" ", 1))
        if name not in _STAND_INS:
            raise CheckpointError(
                f"the file asks for more than weights ({printable(name)}); nothing of it was run: "
                "do not use it unless you trust where it came from"
            )
    elif operation not in OPERATIONS:
        raise CheckpointError(
            f"expected a pickle of protocol 2, in which torch saves, found the operation "
            f"{operation}; save the weights again with torch.save and its defaults"
        )
    elif operation == "LONG_BINPUT" and argument > count:  # Python makes room for all below
        raise CheckpointError("expected a pickle of weights, found a memo with gaps in it")


def _full_name(module: str, name: str) -> str:
    """Protocol 2 calls the built-in names what Python 2 called them."""
    return f"{'builtins' if module == '__builtin__' else module}.{name}"


def _first_line(error: BaseException) -> str:
    return printable(first_line(error))
