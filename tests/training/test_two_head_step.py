"""One update by two losses, written out in plain PyTorch, and its place in a run."""

import copy
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ganblocks.models.painting_classifier import PaintingCNN, PaintingCNNConfig
from ganblocks.models.two_head_classifier import TwoHeadClassifier
from ganblocks.training.randomness import StepContext
from ganblocks.training.schedule import ConstantSchedule
from ganblocks.training.two_head_step import TwoHeadStep
from tolerances import for_dtype

ATTRIBUTES = torch.tensor([[True, False], [True, True], [False, False]])
CONFIG = PaintingCNNConfig(8, 1, 3, (3, 4), 6, dropout=0.0)


def context(images_seen: int = 0) -> StepContext:
    return StepContext(0, images_seen, ConstantSchedule(10**6, 8, 0.1).phase(images_seen))


def batch(count: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    images = torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)
    return images, torch.arange(count) % 3


def model_of(seed: int = 0) -> TwoHeadClassifier:
    torch.manual_seed(seed)
    return TwoHeadClassifier(PaintingCNN(CONFIG), 2)


def step_of(model: TwoHeadClassifier, **options: object) -> TwoHeadStep:
    options = {"attributes": ATTRIBUTES, "optimizer": torch.optim.SGD(model.parameters(), lr=1.0), **options}
    return TwoHeadStep(model, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("micro_batch", [None, 2])
@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_step_written_out(weight: float, micro_batch: int | None) -> None:
    model = model_of()
    plain = copy.deepcopy(model)
    images, labels = batch()
    log = step_of(model, attribute_weight=weight, micro_batch=micro_batch)(images, labels, context())

    logits, attributes = plain.both(images.float() / 127.5 - 1)
    truth = ATTRIBUTES[labels].float()
    first = F.cross_entropy(logits, labels)
    shares = attributes.sigmoid()
    second = -(truth * shares.log() + (1 - truth) * (1 - shares).log()).mean()
    loss = first + weight * second
    loss.backward()
    close = for_dtype(torch.float32)
    torch.testing.assert_close(log["loss"], loss.detach(), **close)
    torch.testing.assert_close(log["cross_entropy"], first.detach(), **close)
    torch.testing.assert_close(log["attribute_loss"], second.detach(), **close)
    right = ((shares > 0.5) == truth.bool()).float().mean()
    torch.testing.assert_close(log["attribute_accuracy"], right, **close)
    torch.testing.assert_close(log["accuracy"], (logits.argmax(1) == labels).float().mean(), **close)
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert theirs.grad is not None
        torch.testing.assert_close(ours.detach(), (theirs - 0.1 * theirs.grad).detach(), **close)


def test_it_learns_both() -> None:
    model = model_of()
    step = step_of(model, optimizer=torch.optim.Adam(model.parameters()))
    images, labels = batch(9)
    slow = ConstantSchedule(10**6, 9, 0.01)
    logs = [step(images, labels, StepContext(0, 9 * row, slow.phase(9 * row))) for row in range(200)]
    assert float(logs[0]["attribute_loss"]) == pytest.approx(math.log(2), abs=0.3)
    assert float(logs[-1]["attribute_accuracy"]) == 1
    assert float(logs[-1]["accuracy"]) == 1


def test_state_goes_over_to_a_new_step_bit_for_bit() -> None:
    images, labels = batch()
    first, second = step_of(model_of(0)), step_of(model_of(1))
    first(images, labels, context())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    ours, theirs = (step(images, labels, context(8)) for step in (first, second))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for a, b in zip(first.classifier.parameters(), second.classifier.parameters(), strict=True):
        assert torch.equal(a, b)


def test_low_precision_judges_in_float32() -> None:
    from ganblocks.training.precision import Precision

    model = model_of()
    log = step_of(model, precision=Precision("bf16", torch.device("cpu")))(*batch(), context())
    assert {tensor.dtype for tensor in log.values()} == {torch.float32}


def test_what_does_not_fit_is_told() -> None:
    model = model_of()
    with pytest.raises(TypeError, match="must be bool"):
        step_of(model, attributes=ATTRIBUTES.float())
    with pytest.raises(TypeError, match="PaintingCNN has no method `both`"):
        step_of(model.classifier)  # type: ignore[arg-type]
    images, labels = batch()
    with pytest.raises(ValueError, match=r"\[3, 2\], \[K, A\]"):
        step_of(model, attributes=ATTRIBUTES.T)(images, labels, context())
    with pytest.raises(ValueError, match="attribute_weight"):
        step_of(model, attribute_weight=-1.0)
    with pytest.raises(ValueError, match="from 0 to 2"):
        step_of(model)(images, labels + 1, context())
