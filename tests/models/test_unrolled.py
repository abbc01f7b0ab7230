"""Autoencoders in a row as one: encoders, then decoders in reverse, with what happened to the codes between them."""

import copy

import pytest
import torch
from torch import Tensor, nn

from ganblocks.models.autoencoder import DenseAutoencoder
from ganblocks.models.stacked import StackedClassifier, StackedClassifierConfig, autoencoder_configs
from ganblocks.models.unrolled import CodeNormalization, UnrolledAutoencoder
from tolerances import for_dtype

CONFIG = StackedClassifierConfig(resolution=3, image_channels=2, num_classes=3, widths=(6, 5, 4))


def autoencoders(*, tied: bool = False) -> list[DenseAutoencoder]:
    """With biases that are not 0."""
    stack = [DenseAutoencoder(part) for part in autoencoder_configs(CONFIG, tied=tied)]
    for autoencoder in stack:
        for parameter in autoencoder.parameters():
            nn.init.normal_(parameter, std=0.5)
    return stack


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("normalized", [False, True])
def test_all_encoders_then_all_decoders(normalized: bool, tied: bool) -> None:
    stack = autoencoders(tied=tied)
    a, b = (torch.rand(6), 3.0), (torch.rand(5), 0.5)
    normalizations = [a, b, (torch.rand(4), 7.0)] if normalized else None
    if not normalized:
        a, b = (torch.zeros(6), 1.0), (torch.zeros(5), 1.0)
    deep = UnrolledAutoencoder(stack, normalizations)
    first, second, third = stack
    x = torch.rand(4, 2, 3, 3)
    codes = third.encode((second.encode((first.encode(x) - a[0]) / a[1]) - b[0]) / b[1])
    rebuilt = first.decode(second.decode(third.decode(codes) * b[1] + b[0]) * a[1] + a[0])
    tolerance = for_dtype(torch.float32)
    torch.testing.assert_close(deep.encode(x), codes, **tolerance)
    torch.testing.assert_close(deep.decode(codes), rebuilt, **tolerance)
    torch.testing.assert_close(deep(x), rebuilt, **tolerance)
    torch.testing.assert_close(deep.logits(x).sigmoid(), rebuilt, **tolerance)
    assert deep(x).shape == x.shape
    assert codes.count_nonzero() > 0
    classifier = StackedClassifier.assemble(
        CONFIG,
        list(deep.autoencoders),  # type: ignore[arg-type]
        normalizations=None if normalizations is None else [*normalizations[:2], None],
    )
    torch.testing.assert_close(classifier.features(2 * x - 1), codes, **tolerance)


def test_copies_are_trained() -> None:
    stack = autoencoders(tied=True)
    before = [copy.deepcopy(part.state_dict()) for part in stack]
    deep = UnrolledAutoencoder(stack)
    deep(torch.rand(4, 2, 3, 3)).sum().backward()
    assert parameters(deep) == sum(map(parameters, stack))
    assert all(parameter.grad is not None for parameter in deep.parameters())
    for parameter in deep.parameters():
        nn.init.zeros_(parameter)
    for part, state in zip(stack, before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in part.state_dict().items())
        assert all(parameter.grad is None for parameter in part.parameters())


def test_gradients() -> None:
    deep = UnrolledAutoencoder(autoencoders(), [(torch.rand(6), 3.0), None, None]).double()
    x = torch.rand(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(deep, (x,))
    assert torch.autograd.gradgradcheck(deep, (x,), fast_mode=True)


def test_a_normalization_takes_the_mean_and_the_spread_away_and_gives_them_back() -> None:
    part = CodeNormalization(3)
    codes = torch.tensor([[1.0, 2.0, 3.0], [5.0, 2.0, 1.0]])
    assert torch.equal(part(codes), codes)
    part.set(torch.tensor([3.0, 2.0, 2.0]), 2.0)
    expected: Tensor = torch.tensor([[-1.0, 0.0, 0.5], [1.0, 0.0, -0.5]])
    assert torch.equal(part(codes), expected)
    assert torch.equal(part.inverse(expected), codes)
    assert parameters(part) == 0


def test_what_does_not_fit_is_told() -> None:
    stack = autoencoders()
    with pytest.raises(ValueError, match=r"`autoencoders` is \(5,\), but must be \(6,\)"):
        UnrolledAutoencoder([stack[0], stack[2]])
    with pytest.raises(ValueError, match=r"`autoencoders` is \[\]"):
        UnrolledAutoencoder([])
    with pytest.raises(ValueError, match="`normalizations` is 2, but must be 3"):
        UnrolledAutoencoder(stack, [None, None])
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="`scale` is"):
            UnrolledAutoencoder(stack, [(torch.zeros(6), scale), None, None])
    with pytest.raises(ValueError, match=r"`mean` is \(1,\)"):
        UnrolledAutoencoder(stack, [(torch.zeros(1), 1.0), None, None])
