"""Nested training state as named tensors plus a JSON document, without loss and without pickle.

A state is what ``state_dict()`` methods return, nested at will. ``flatten`` splits it into what safetensors can hold
(the tensors, by name) and what JSON can hold (all the rest, with references to the tensors); ``unflatten`` puts it
together again. In the document, plain JSON stands for itself and an object whose first key starts with ``$`` stands
for what JSON lacks:

=============  =====================================================================================
``$tensor``    a ``torch.Tensor``: its name; ``memory_format`` if channels-last; ``complex`` if stored as pairs
``$array``     a ``numpy.ndarray``: its name and ``dtype``
``$scalar``    a NumPy scalar: dtype and bytes in hexadecimal
``$tuple``     a tuple
``$dict``      a dict with int keys or keys that start with ``$``: pairs of key and value
``$ordered``   an ``OrderedDict``; ``metadata`` holds the versions that ``Module.state_dict()`` attaches to it
``$int``       an int of 2**53 or more: hexadecimal (JSON readers lose digits there, and Python limits decimals)
``$float``     an infinite float or a NaN: its eight bytes in hexadecimal
=============  =====================================================================================
"""

import math
import struct
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["flatten", "tensor_bytes", "unflatten"]

MAX_DEPTH = 100  # a state nested deeper holds itself, most likely

_COMPLEX = (torch.complex64, torch.complex128)
_DTYPES = {
    *(torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    *(torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.float8_e4m3fn, torch.float8_e5m2, torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *_COMPLEX,
}
_ARRAY_DTYPES = {
    np.dtype(name)
    for name in (
        *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
        *("float16", "float32", "float64", "complex64", "complex128"),
    )
}
_MEMORY_FORMATS = {4: ("channels_last", torch.channels_last), 5: ("channels_last_3d", torch.channels_last_3d)}


def flatten(state: Any) -> tuple[dict[str, Tensor], Any]:
    """Split a nested state into named tensors and a JSON document.

    Kept exactly: ``None``, bool, int of any size, float (NaN to the last bit), str, list, tuple, dict and
    ``OrderedDict`` with str or int keys (order too), tensors of any strided dtype that safetensors knows, complex
    ones, NumPy arrays and scalars of a number type. Tensors are copied to the CPU, each with memory of its own, and
    lose ``requires_grad``; a channels-last one comes back channels-last, every other layout contiguous.

    Args:
        state: The state; a mapping, as a rule.

    Returns:
        The tensors by name (the path in the state: ``"optimizer/state/3/exp_avg"``) and the document, which
        ``json.dumps(..., allow_nan=False)`` accepts.

    Raises:
        TypeError: Something in the state is of another type; the message names its path.
        ValueError: The state is nested more than 100 levels deep, or holds itself.
    """
    tensors: dict[str, Tensor] = {}
    return tensors, _encode(state, (), tensors)


def unflatten(tensors: dict[str, Tensor], document: Any) -> Any:
    """Rebuild the state that ``flatten`` has split.

    Args:
        tensors: The tensors by name; they become part of the result, not copies of them.
        document: The document, before or after a round trip through JSON.

    Returns:
        The state, its tensors on the CPU.

    Raises:
        ValueError: The document was not made by ``flatten``, or does not belong to these tensors.
    """
    unused = dict(tensors)
    try:
        state = _decode(document, unused)
    except (AttributeError, LookupError, TypeError, RuntimeError, struct.error) as error:
        raise ValueError(f"`document` was not made by flatten() for these tensors: {error!r}") from error
    if unused:
        raise ValueError(f"`document` does not mention the tensors {sorted(unused)}")
    return state


def tensor_bytes(state: Any) -> int:
    """Bytes of all tensors in a nested state; nothing is copied."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    if isinstance(state, Mapping):
        return sum(map(tensor_bytes, state.values()))
    return sum(map(tensor_bytes, state)) if isinstance(state, (list, tuple)) else 0


def _encode(value: Any, path: tuple[str, ...], tensors: dict[str, Tensor]) -> Any:
    if len(path) > MAX_DEPTH:
        raise ValueError(f"{'/'.join(path[:4])}/... is nested more than {MAX_DEPTH} levels deep; does it hold itself?")
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if kind is int:
        return value if abs(value) < 2**53 else {"$int": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {"$float": struct.pack(">d", value).hex()}
    if kind is list:
        return [_encode(item, (*path, str(index)), tensors) for index, item in enumerate(value)]
    if kind is tuple:
        return {"$tuple": [_encode(item, (*path, str(index)), tensors) for index, item in enumerate(value)]}
    if kind is dict:
        return _encode_items(value, path, tensors)
    if kind is OrderedDict:
        node = {"$ordered": _encode_items(value, path, tensors)}
        if hasattr(value, "_metadata"):
            node["metadata"] = _encode(value._metadata, (*path, "_metadata"), tensors)
        return node
    if isinstance(value, Tensor):
        return _encode_tensor(value, path, tensors)
    if kind is np.ndarray and value.dtype.newbyteorder("=") in _ARRAY_DTYPES:
        native = torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("="), order="C"))
        stored = torch.view_as_real(native) if native.is_complex() else native
        return {"$array": _add(stored, path, tensors), "dtype": value.dtype.str}
    if isinstance(value, np.generic) and value.dtype in _ARRAY_DTYPES:
        return {"$scalar": value.dtype.str, "bytes": value.tobytes().hex()}
    raise TypeError(f"{_name(path)} is a {_describe(value)}, which a checkpoint cannot hold")


def _encode_items(value: dict[Any, Any], path: tuple[str, ...], tensors: dict[str, Tensor]) -> dict[str, Any]:
    for key in value:
        if type(key) not in (str, int):
            raise TypeError(f"{_name(path)} has the key {key!r}, but keys must be of type str or int")
    # str() refuses an int of more than 4300 digits, hex() does not.
    parts = [hex(key) if type(key) is int and abs(key) >= 2**53 else str(key) for key in value]
    items = [
        (key, _encode(item, (*path, part), tensors)) for part, (key, item) in zip(parts, value.items(), strict=True)
    ]
    if all(type(key) is str and not key.startswith("$") for key in value):
        return dict(items)
    return {"$dict": [[_encode(key, path, tensors), item] for key, item in items]}


def _encode_tensor(value: Tensor, path: tuple[str, ...], tensors: dict[str, Tensor]) -> dict[str, Any]:
    plain = type(value) in (Tensor, torch.nn.Parameter, torch.nn.Buffer)
    if not plain or value.layout is not torch.strided or value.is_meta or value.dtype not in _DTYPES:
        raise TypeError(f"{_name(path)} is a {_describe(value)}, which a checkpoint cannot hold")
    node: dict[str, Any] = {}
    name, memory_format = _MEMORY_FORMATS.get(value.dim(), ("", torch.contiguous_format))
    if name:  # by strides, since is_contiguous() is true of both formats for [N, C, 1, 1]
        strides = torch.empty(value.shape, memory_format=memory_format, device="meta").stride()
        if value.stride() == strides != torch.empty(value.shape, device="meta").stride():
            node["memory_format"] = name
    stored = value.detach().cpu().resolve_conj().resolve_neg().clone(memory_format=torch.contiguous_format)
    if stored.is_complex():
        stored = torch.view_as_real(stored)
        node["complex"] = True
    return {"$tensor": _add(stored, path, tensors), **node}


def _add(tensor: Tensor, path: tuple[str, ...], tensors: dict[str, Tensor]) -> str:
    """Give the tensor a name that is free: {1: a} and {"1": b} have one path, and surrogates are no UTF-8."""
    base = name = _name(path).encode("utf-8", "backslashreplace").decode()
    while name in tensors or name == "__metadata__":  # the latter is taken by the file format
        name = f"{base}#{len(tensors)}"
        base = name
    tensors[name] = tensor
    return name


def _name(path: tuple[str, ...]) -> str:
    return "/".join(path) or "state"


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{type(value).__name__} of {value.dtype}, {value.layout}, on {value.device}"
    return f"{type(value).__name__} of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__


def _decode(node: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(node, list):
        return [_decode(item, tensors) for item in node]
    if not isinstance(node, dict):
        return node
    match next(iter(node), ""):
        case "$tensor":
            return _decode_tensor(node, tensors)
        case "$array":
            return _decode_array(node, tensors)
        case "$scalar":
            return np.frombuffer(bytes.fromhex(node["bytes"]), dtype=_array_dtype(node["$scalar"]))[0]
        case "$tuple":
            return tuple(_decode(item, tensors) for item in node["$tuple"])
        case "$dict":
            return {_decode(key, tensors): _decode(item, tensors) for key, item in node["$dict"]}
        case "$ordered":
            ordered: Any = OrderedDict(_decode(node["$ordered"], tensors))
            if "metadata" in node:
                ordered._metadata = _decode(node["metadata"], tensors)
            return ordered
        case "$int":
            return int(node["$int"], 16)
        case "$float":
            return struct.unpack(">d", bytes.fromhex(node["$float"]))[0]
        case tag if tag.startswith("$"):
            raise ValueError(f"`document` holds the unknown tag {tag!r}")
        case _:
            return {key: _decode(item, tensors) for key, item in node.items()}


def _decode_tensor(node: dict[str, Any], tensors: dict[str, Tensor]) -> Tensor:
    tensor = tensors.pop(node["$tensor"])
    if node.get("complex"):
        tensor = torch.view_as_complex(tensor)
    if "memory_format" in node:
        name, memory_format = _MEMORY_FORMATS[tensor.dim()]
        if node["memory_format"] != name:
            raise ValueError(f"`document` holds the memory format {node['memory_format']!r} for {tensor.dim()} axes")
        tensor = torch.empty_like(tensor, memory_format=memory_format).copy_(tensor)
    return tensor


def _decode_array(node: dict[str, Any], tensors: dict[str, Tensor]) -> np.ndarray[Any, Any]:
    dtype = _array_dtype(node["dtype"])
    tensor = tensors.pop(node["$array"])
    array = (torch.view_as_complex(tensor) if dtype.kind == "c" else tensor).numpy()
    if array.dtype != dtype.newbyteorder("="):
        raise ValueError(f"`document` says {dtype} for an array of {array.dtype}")
    return array.astype(dtype, copy=False)


def _array_dtype(name: str) -> np.dtype[Any]:
    dtype = np.dtype(name)
    if dtype.newbyteorder("=") not in _ARRAY_DTYPES:
        raise ValueError(f"`document` holds the array type {name!r}")
    return dtype
