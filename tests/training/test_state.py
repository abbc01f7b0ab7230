"""A state comes back as it was: values to the bit, types, order, memory formats; anything else is refused by name."""

import json
import math
import struct
from collections import OrderedDict, defaultdict
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganblocks.training.state import flatten, unflatten
from ganblocks.training.state import tensor_bytes as size_of

TENSOR_DTYPES = [
    *(torch.bool, torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32),
    *(torch.int64, torch.float8_e4m3fn, torch.float8_e5m2, torch.float16, torch.bfloat16, torch.float32),
    *(torch.float64, torch.complex64, torch.complex128),
]
ARRAY_DTYPES = ["?", "u1", "<u2", ">i4", "<i8", "<f2", ">f4", "<f8", "<c8", ">c16"]


def tensor_bytes(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.detach().contiguous().reshape(-1).view(torch.uint8).tolist()) if tensor.numel() else b""


def same(first: Any, second: Any) -> bool:
    """Equality with nothing forgiven: types, order of keys, bits of floats, strides of tensors."""
    if type(first) is not type(second):
        return False
    if isinstance(first, float) and not isinstance(first, np.generic):
        return struct.pack("<d", first) == struct.pack("<d", second)
    if isinstance(first, dict):
        pairs = zip(first.items(), second.items(), strict=True)
        return len(first) == len(second) and all(same(a, c) and same(b, d) for (a, b), (c, d) in pairs)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, torch.Tensor):
        layout = (first.dtype, first.shape, first.stride()) == (second.dtype, second.shape, second.stride())
        return layout and tensor_bytes(first) == tensor_bytes(second)
    if isinstance(first, np.ndarray | np.generic):
        return (first.dtype.str, first.shape, first.tobytes()) == (second.dtype.str, second.shape, second.tobytes())
    return bool(first == second)


def round_trip(state: Any) -> Any:
    tensors, document = flatten(state)
    return unflatten(tensors, json.loads(json.dumps(document, allow_nan=False)))


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    shape = draw(st.lists(st.sampled_from([0, 1, 2, 3]), max_size=5))
    dtype = draw(st.sampled_from(TENSOR_DTYPES))
    count = math.prod(shape) * dtype.itemsize
    if dtype is torch.bool:
        flat = torch.tensor(list(draw(st.binary(min_size=count, max_size=count))), dtype=torch.uint8) > 127
    else:  # any bits: NaN with payload, subnormals, infinities
        data = draw(st.binary(min_size=count, max_size=count))
        flat = torch.frombuffer(bytearray(data), dtype=dtype) if count else torch.empty(0, dtype=dtype)
    tensor = flat.reshape(shape)
    if len(shape) >= 4 and draw(st.booleans()):
        memory_format = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
        tensor = torch.empty_like(tensor, memory_format=memory_format).copy_(tensor)
    return tensor


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    dtype = np.dtype(draw(st.sampled_from(ARRAY_DTYPES)))
    shape = draw(st.lists(st.sampled_from([0, 1, 2, 3]), max_size=3))
    count = math.prod(shape) * dtype.itemsize
    data = draw(st.binary(min_size=count, max_size=count))
    if dtype.kind == "b":
        data = bytes(byte & 1 for byte in data)
    array = np.frombuffer(data, dtype=dtype).reshape(shape)
    return array[()] if shape == [] and dtype.isnative and draw(st.booleans()) else array


AWKWARD_KEYS = ["$tuple", "$", "__metadata__", "1", "\ud800", "a/b"]
KEYS = st.one_of(st.text(max_size=4), st.integers(), st.sampled_from(AWKWARD_KEYS))
LEAVES = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), tensors(), arrays()),
    *(st.sampled_from([2**53 - 1, 2**53, -(2**53), -0.0, math.inf, -math.inf, "\ud800", "$int"]),),
)
STATES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(KEYS, inner, max_size=3),
        st.dictionaries(KEYS, inner, max_size=3).map(OrderedDict),
    ),
    max_leaves=10,
)


@given(STATES)
def test_any_state_comes_back_to_the_bit(state: Any) -> None:
    assert same(round_trip(state), state)


@pytest.mark.parametrize("dtype", TENSOR_DTYPES)
def test_every_dtype_comes_back(dtype: torch.dtype) -> None:
    tensor = torch.tensor([0, 1, 1, 0]).to(dtype).reshape(2, 2)
    assert same(round_trip({"x": tensor, "scalar": tensor[0, 1], "none": tensor[:0]})["x"], tensor)


def test_integers_beyond_the_decimal_limit_of_python_come_back() -> None:
    assert round_trip({"x": -(10**5000), 10**5000: [10**5000]}) == {"x": -(10**5000), 10**5000: [10**5000]}


def test_nan_keeps_sign_and_payload() -> None:
    (nan,) = struct.unpack(">d", bytes.fromhex("fff8000000abcdef"))
    assert struct.pack(">d", round_trip(nan)).hex() == "fff8000000abcdef"


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (4, 3, 1, 1), (2, 1, 3, 3), (1, 3, 1, 2)])
def test_channels_last_comes_back_by_its_strides(shape: tuple[int, ...]) -> None:
    tensor = torch.empty(shape, memory_format=torch.channels_last).copy_(torch.randn(shape))
    back = round_trip([tensor, tensor.contiguous(memory_format=torch.contiguous_format)])
    assert back[0].stride() == tensor.stride()
    assert torch.equal(back[0], tensor)


def test_other_layouts_keep_their_values_and_become_contiguous() -> None:
    base = torch.arange(24.0).reshape(2, 3, 4)
    for view in (base.transpose(0, 2), base[:, ::2], base[0, 0, 0].expand(2, 3), torch.conj(base + 1j).imag):
        back = round_trip(view)
        assert torch.equal(back, view)
        assert back.is_contiguous()


def test_shared_memory_is_separated_and_the_source_is_not_aliased() -> None:
    base = torch.zeros(4)
    flat, document = flatten({"whole": base, "part": base[1:3], "again": base})
    base.fill_(7)
    back = unflatten(flat, document)
    back["whole"].fill_(3)
    assert back["part"].tolist() == [0, 0]
    assert back["again"].tolist() == [0, 0, 0, 0]


def test_parameters_become_tensors_without_gradient() -> None:
    back = round_trip({"weight": torch.nn.Parameter(torch.ones(2)), "buffer": torch.nn.Buffer(torch.ones(1))})
    assert type(back["weight"]) is torch.Tensor
    assert not back["weight"].requires_grad


def test_state_dict_keeps_the_versions_of_its_modules() -> None:
    module = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 1))
    saved = module.state_dict()
    back = round_trip(saved)
    assert same(back, saved)
    assert back._metadata == saved._metadata
    assert back._metadata["0"] == {"version": 2}


def test_tensors_are_named_by_their_path() -> None:
    named, _ = flatten({"optimizer": {"state": {3: {"exp_avg": torch.ones(1)}}}, "list": [torch.ones(1)]})
    assert set(named) == {"optimizer/state/3/exp_avg", "list/0"}


def test_paths_that_collide_do_not_mix_up_tensors() -> None:
    state = {1: torch.tensor(1), "1": torch.tensor(2), "a": {"b": torch.tensor(3)}, "a/b": torch.tensor(4), "1#1": 5}
    assert same(round_trip(state), state)


class Label(str):
    """A subclass would come back as its base, so it is refused."""


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({1}, "set"),
        (b"bytes", "bytes"),
        (1j, "complex"),
        (Label("x"), "Label"),
        (defaultdict(int), "defaultdict"),
        (torch.Size([1]), "Size"),
        (torch.float32, "dtype"),
        (torch.empty(1, device="meta"), "Tensor of torch.float32"),
        (torch.eye(2).to_sparse(), "Tensor of torch.float32, torch.sparse_coo"),
        (np.array(["text"]), "ndarray of <U4"),
        (np.array([None]), "ndarray of object"),
        (np.ma.masked_array([1.0]), "MaskedArray"),
        (np.str_("x"), "str_"),
        (np.datetime64("2020-01-01"), "datetime64"),
        (np.longdouble(1), "longdouble"),
        (len, "builtin_function_or_method"),
    ],
)
def test_other_types_are_refused_with_their_path(value: Any, kind: str) -> None:
    with pytest.raises(TypeError, match=f"^optimizer/state/3/foo is a {kind}.*cannot hold"):
        flatten({"optimizer": {"state": {3: {"foo": value}}}})


@pytest.mark.parametrize("key", [True, None, 1.0, (1, 2), np.int64(1)])
def test_other_keys_are_refused_with_their_path(key: Any) -> None:
    with pytest.raises(TypeError, match=r"^a/b has the key .*type str or int"):
        flatten({"a": {"b": {key: 1}}})


def test_root_is_named_too() -> None:
    with pytest.raises(TypeError, match=r"^state is a set"):
        flatten({1})


def test_state_that_holds_itself_is_refused() -> None:
    state: dict[str, Any] = {}
    state["self"] = state
    with pytest.raises(ValueError, match=r"^self/self/self/self/\.\.\. is nested more than 100 levels"):
        flatten(state)


@pytest.mark.parametrize(
    "document",
    [
        {"$tensor": "absent"},
        {"$tensor": ["x"]},
        {"$unknown": 1},
        {"$int": "xyz"},
        {"$int": 3},
        {"$float": "00"},
        {"$tuple": 3},
        {"$dict": [[1]]},
        {"$dict": [[[], 1]]},
        {"$ordered": 5},
        {"$scalar": "O", "bytes": "00" * 8},
        {"$scalar": "<f8", "bytes": ""},
        {"$array": "x", "dtype": "O"},
        {"$array": "x", "dtype": "<f8"},
        {"$array": "x", "dtype": "<c8"},
        {"$array": "x"},
        {"$tensor": "x", "complex": True},
        {"$tensor": "x", "memory_format": "channels_last"},
        {"no": "tensor"},
    ],
)
def test_documents_of_other_makers_give_value_errors(document: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the messages of the parsers differ; the type is the promise
        unflatten({"x": torch.ones(3)}, document)


def test_document_that_forgets_a_tensor_is_refused() -> None:
    with pytest.raises(ValueError, match=r"does not mention the tensors \['x'\]"):
        unflatten({"x": torch.ones(3)}, {})


def test_wrong_memory_format_is_refused() -> None:
    with pytest.raises(ValueError, match="memory format 'channels_last_3d' for 4 axes"):
        unflatten({"x": torch.ones(1, 1, 1, 1)}, {"$tensor": "x", "memory_format": "channels_last_3d"})


def test_size_counts_each_tensor_wherever_it_lies() -> None:
    state = {"a": torch.zeros(3, 2), "b": [torch.zeros(5, dtype=torch.float16), (torch.zeros((), dtype=torch.int64),)]}
    assert size_of({**state, "c": 7, "d": "text", "e": None}) == 24 + 10 + 8
