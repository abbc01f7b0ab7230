"""Which numbers a run computes with."""

import pytest
import torch
from torch import nn

from ganblocks.training.precision import Precision, has_fast_bfloat16, plain_precision, set_memory_format


def test_auto_is_bf16_exactly_where_the_device_is_fast_at_it() -> None:
    cpu = torch.device("cpu")
    expected = "bf16" if has_fast_bfloat16(cpu) else "fp32"
    assert Precision.resolve("auto", "cpu").name == expected
    with open("/proc/cpuinfo") as file:
        assert has_fast_bfloat16(cpu) == ("amx_bf16" in file.read())
    assert not has_fast_bfloat16(torch.device("meta"))


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_autocast_runs_layers_in_the_dtype(name: str, dtype: torch.dtype) -> None:
    precision = Precision.resolve(name, "cpu")
    assert precision.dtype == dtype
    with precision.autocast():
        assert nn.Linear(2, 2)(torch.randn(1, 2)).dtype == dtype


def test_channels_last_in_low_precision_and_from_16_pixels() -> None:
    fp32, bf16 = Precision.resolve("fp32", "cpu"), Precision.resolve("bf16", "cpu")
    assert [fp32.memory_format(r) for r in (4, 8)] == [torch.contiguous_format] * 2
    assert fp32.memory_format(16) == torch.channels_last
    assert fp32.memory_format(None) == torch.contiguous_format
    assert bf16.memory_format(8) == bf16.memory_format(None) == torch.channels_last


def test_tiny_images_stay_in_float32_on_a_cpu() -> None:
    bf16, fp16 = Precision.resolve("bf16", "cpu"), Precision.resolve("fp16", "cpu")
    layer, found = nn.Linear(2, 2), []
    for precision, resolution in ((bf16, 4), (bf16, 8), (bf16, None), (fp16, 4)):
        with precision.autocast(resolution):
            found.append(layer(torch.zeros(1, 2)).dtype)
    assert found == [torch.float32, torch.bfloat16, torch.bfloat16, torch.float16]
    assert bf16.memory_format(4) == torch.contiguous_format


def test_weights_of_one_channel_change_their_strides_too() -> None:
    layer = nn.Conv2d(1, 4, 3)
    values = layer.weight.detach().clone()
    for memory_format, strides in ((torch.channels_last, (9, 1, 3, 1)), (torch.contiguous_format, (9, 9, 3, 1))):
        set_memory_format(memory_format, [layer], [])
        assert layer.weight.stride() == strides
        assert torch.equal(layer.weight, values)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="auto, fp32, bf16, fp16"):
        Precision.resolve("half", "cpu")


def test_weights_gradients_and_moments_change_together() -> None:
    module = nn.Conv2d(3, 4, 3)
    optimizer = torch.optim.Adam(module.parameters(), fused=True)
    module(torch.randn(1, 3, 5, 5)).sum().backward()
    optimizer.step()
    values = module.weight.detach().clone()
    set_memory_format(torch.channels_last, [module], [optimizer])
    moment = optimizer.state[module.weight]["exp_avg"]
    for tensor in (module.weight, module.weight.grad, moment):
        assert tensor.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(module.weight, values)


def test_the_plain_precision_is_float32_where_the_network_is() -> None:
    assert plain_precision(nn.Linear(2, 2, device="meta")) == Precision("fp32", torch.device("meta"))
    assert plain_precision(nn.ReLU()) == Precision("fp32", torch.device("cpu"))
