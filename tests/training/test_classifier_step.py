"""The science of one batch for classifiers: what is learnt, what is logged, and that nothing broken is ever applied."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ganblocks.data import TensorBatches
from ganblocks.errors import CheckpointError, EmptyDatasetError, NonFiniteError
from ganblocks.models.classifier import ClassifierConfig, SmallClassifier
from ganblocks.training import (
    ClassifierStep,
    CosineSchedule,
    GuardedStep,
    Measurements,
    Phase,
    Precision,
    StepContext,
    Trainer,
    evaluate_classifier,
    predict_features,
    predict_logits,
    recipes,
)
from ganblocks.training.classifier_step import balanced_class_weights
from tolerances import for_dtype, named

CONFIG = ClassifierConfig(resolution=8, num_classes=3, channels=(4, 4), feature_dim=6, dropout=0.5)


def context(images_seen: int = 0, *, seed: int = 0, **phase: object) -> StepContext:
    return StepContext(seed, images_seen, dataclasses.replace(Phase(8, 1e-2), **phase))  # type: ignore[arg-type]


def batch(count: int = 8, *, side: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Class k is brighter the larger k is."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    noise = torch.randint(0, 80, (count, 1, side, side), generator=rng)
    return (noise + 80 * labels.reshape(-1, 1, 1, 1)).to(torch.uint8), labels


def small_step(config: ClassifierConfig = CONFIG, **options: object) -> ClassifierStep:
    torch.manual_seed(0)
    return recipes.small_classifier().build_step(SmallClassifier(config), **options)  # type: ignore[arg-type]


class Linear(nn.Module):
    """Vectors to logits; enough of a network to check arithmetic by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3, bias=False).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


def linear_step(**options: object) -> ClassifierStep:
    torch.manual_seed(0)
    model = Linear()
    return ClassifierStep(model, optimizer=torch.optim.SGD(model.parameters(), lr=1.0), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("smoothing", [0.0, 0.25])
def test_step_written_out(smoothing: float) -> None:
    """The gradient of the cross-entropy is softmax minus target, in NumPy; the rate is the phase's."""
    step = linear_step(label_smoothing=smoothing)
    W = step.classifier.linear.weight.detach().numpy().copy()
    x = np.random.default_rng(0).normal(size=(6, 4))
    labels = np.array([0, 1, 2, 2, 1, 1])
    logits = x @ W.T
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    target = (1 - smoothing) * np.eye(3)[labels] + smoothing / 3
    log = step(torch.from_numpy(x), torch.from_numpy(labels), context(learning_rate=0.1))
    double = for_dtype(torch.float64)
    expected = W - 0.1 * (softmax - target).T @ x / 6
    np.testing.assert_allclose(step.classifier.linear.weight.detach().numpy(), expected, **double)
    assert log.keys() == {"loss", "accuracy"}
    np.testing.assert_allclose(log["loss"].item(), -(target * np.log(softmax)).sum(1).mean(), **double)
    np.testing.assert_allclose(log["accuracy"].item(), (logits.argmax(1) == labels).mean(), **for_dtype(torch.float32))


class Penalised(Linear):
    """Half of what each weight is, and the mean size of the logits of the last batch."""

    def forward(self, x: Tensor) -> Tensor:
        self.logits = super().forward(x)
        return self.logits

    def penalty(self) -> Tensor:
        return 0.5 * self.linear.weight.sum() + self.logits.square().sum() / len(self.logits)


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_step_with_a_penalty_written_out(micro_batch: int | None) -> None:
    """The penalty is part of the loss and of the gradient, in parts of a batch as in the whole of it."""
    torch.manual_seed(0)
    model = Penalised()
    W = model.linear.weight.detach().numpy().copy()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    step = ClassifierStep(model, optimizer=optimizer, penalty=True, micro_batch=micro_batch)
    x = np.random.default_rng(0).normal(size=(6, 4))
    labels = np.array([0, 1, 2, 2, 1, 1])
    logits, target = x @ W.T, np.eye(3)[labels]
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    log = step(torch.from_numpy(x), torch.from_numpy(labels), context(learning_rate=0.1))
    double = for_dtype(torch.float64)
    gradient = (softmax - target).T @ x / 6 + 0.5 + 2 * logits.T @ x / 6
    np.testing.assert_allclose(model.linear.weight.detach().numpy(), W - 0.1 * gradient, **double)
    assert log.keys() == {"loss", "cross_entropy", "penalty", "accuracy"}
    cross_entropy, penalty = -(target * np.log(softmax)).sum(1).mean(), 0.5 * W.sum() + (logits**2).sum() / 6
    np.testing.assert_allclose(log["cross_entropy"].item(), cross_entropy, **double)
    np.testing.assert_allclose(log["penalty"].item(), penalty, **double)
    np.testing.assert_allclose(log["loss"].item(), cross_entropy + penalty, **double)
    np.testing.assert_allclose(log["accuracy"].item(), (logits.argmax(1) == labels).mean(), **for_dtype(torch.float32))
    assert all(value.dim() == 0 and not value.requires_grad for value in log.values())


def test_a_penalty_is_asked_for_only_where_it_is_said() -> None:
    torch.manual_seed(0)
    model = Penalised()
    step = ClassifierStep(model, optimizer=torch.optim.SGD(model.parameters(), lr=1.0))
    x, labels = torch.ones(2, 4, dtype=torch.float64), torch.tensor([0, 1])
    model.penalty = None  # type: ignore[assignment, method-assign]
    assert step(x, labels, context()).keys() == {"loss", "accuracy"}
    with pytest.raises(TypeError, match="`penalty` is True, but Linear has no method of that name"):
        linear_step(penalty=True)


def test_the_log_is_of_tensors_without_graph() -> None:
    log = small_step()(*batch(), context())
    assert all(value.dim() == 0 and not value.requires_grad for value in log.values())


def test_learning_rate_comes_from_the_phase() -> None:
    step = small_step()
    step(*batch(), context(learning_rate=0.25))
    assert step.optimizer.param_groups[0]["lr"] == 0.25


def test_bytes_and_floats_are_the_same_images() -> None:
    images, labels = batch()
    first, second = small_step(), small_step()
    a = first(images, labels, context())
    b = second(images.float() / 127.5 - 1, labels, context())
    torch.testing.assert_close(a["loss"], b["loss"], **for_dtype(torch.float32))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_labels_may_be_whole_numbers_of_any_kind(dtype: torch.dtype) -> None:
    images, labels = batch()
    losses = [small_step()(images, kind, context())["loss"] for kind in (labels, labels.to(dtype))]
    assert torch.equal(*losses)
    model = small_step().classifier
    assert evaluate_classifier(model, images, labels.to(dtype)) == evaluate_classifier(model, images, labels)


def test_dropout_is_a_function_of_seed_and_position_and_leaves_no_trace() -> None:
    images, labels = batch()
    losses = []
    for seed, images_seen, spent in ((0, 0, 0), (0, 0, 5), (0, 8, 0), (1, 0, 0)):
        step = small_step()
        torch.manual_seed(3)
        torch.rand(spent)
        before = torch.get_rng_state()
        losses.append(step(images, labels, context(images_seen, seed=seed))["loss"].item())
        assert torch.equal(torch.get_rng_state(), before)
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3


def test_it_learns() -> None:
    step = small_step()
    for index in range(40):
        log = step(*batch(seed=index), context(8 * index, learning_rate=1e-2))
    assert log["loss"] < 0.5
    assert evaluate_classifier(step.classifier, *batch(60, seed=99))["val_accuracy"] > 0.9


def test_state_goes_over_to_a_new_step_bit_for_bit() -> None:
    first, second = small_step(), small_step()
    nn.init.normal_(second.classifier.head.weight)
    for index in range(3):
        first(*batch(seed=index), context(8 * index))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for index in range(3, 6):
        logs = [step(*batch(seed=index), context(8 * index)) for step in (first, second)]
        assert torch.equal(logs[0]["loss"], logs[1]["loss"])
    a, b = first.state_dict(), second.state_dict()
    assert all(torch.equal(a["classifier"][key], b["classifier"][key]) for key in a["classifier"])
    assert a["calls"] == b["calls"] == 6


def test_a_state_of_another_architecture_is_refused() -> None:
    with pytest.raises(CheckpointError, match="do not fit this SmallClassifier"):
        small_step().load_state_dict(small_step(CONFIG.replace(feature_dim=7)).state_dict())


def test_memory_format_of_large_images_changes_nothing_but_speed() -> None:
    """From 16 pixels up weights, moments and images go channels last; updates equal those without."""
    config = CONFIG.replace(resolution=16, channels=(4, 8), dropout=0.0)
    steps = [small_step(config), small_step(config)]
    steps[1].precision = PlainOrder("fp32", torch.device("cpu"))
    for index in range(3):
        for step in steps:
            step(*batch(side=16, seed=index), context(index))
    weights = [step.classifier.blocks[1].conv.weight for step in steps]
    assert [w.is_contiguous(memory_format=torch.channels_last) for w in weights] == [True, False]
    torch.testing.assert_close(*weights, **named("two routes in float32"))


def test_grey_images_do_not_turn_the_network_to_plain_order() -> None:
    """One channel is in both orders at once; what the convolution makes of it has the order that its strides name."""
    step = small_step(CONFIG.replace(resolution=16))
    seen = []
    step.classifier.blocks[0].conv.register_forward_hook(lambda module, given, result: seen.append(result))
    step(*batch(side=16), context())
    predict_logits(step.classifier, batch(side=16)[0])
    assert [y.is_contiguous(memory_format=torch.channels_last) for y in seen] == [True, True]


class PlainOrder(Precision):
    def memory_format(self, resolution: int | None) -> torch.memory_format:
        return torch.contiguous_format


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_low_precision_keeps_weights_in_float32(name: str) -> None:
    step = small_step(precision=Precision.resolve(name, "cpu"))  # type: ignore[arg-type]
    log = step(*batch(), context())
    assert all(value.isfinite() and value.dtype == torch.float32 for value in log.values())
    assert all(parameter.dtype == torch.float32 for parameter in step.classifier.parameters())
    assert step.scaler.is_enabled() == (name == "fp16")
    assert predict_logits(step.classifier, batch()[0], precision=step.precision).dtype == torch.float32


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("fused", [True, False])
def test_images_that_are_no_numbers_change_neither_weights_nor_statistics(fused: bool, bad: float) -> None:
    torch.manual_seed(0)
    model = SmallClassifier(CONFIG)
    adam = torch.optim.Adam(model.parameters(), fused=fused)
    step = ClassifierStep(model, optimizer=adam, max_skipped_updates=1)
    images, labels = batch()
    step(images, labels, context())
    before = {name: value.clone() for name, value in step.classifier.state_dict().items()}
    broken = images.float() / 127.5 - 1
    broken[0, 0, 0, 0] = bad
    log = step(broken, labels, context(8))
    assert not log["loss"].isfinite()
    for name, value in step.classifier.state_dict().items():
        assert value.dtype == torch.int64 or torch.equal(value, before[name]), name
    assert step.skipped_updates() == 1
    step(broken, labels, context(16))
    with pytest.raises(NonFiniteError, match="of the classifier was not finite at step 3"):
        step.skipped_updates()
    assert isinstance(step, GuardedStep)


def test_what_is_no_label_is_told_at_once() -> None:
    images, labels = batch()
    step = small_step()
    before = copy.deepcopy(step.classifier.state_dict())
    with pytest.raises(ValueError, match="`labels` is None"):
        step(images, None, context())
    with pytest.raises(ValueError, match="`labels` is 'from 0 to 3', but must be from 0 to 2"):
        step(images, torch.where(labels == 2, 3, labels), context())
    with pytest.raises(ValueError, match="`labels` is 'from -1 to 1'"):
        step(images, labels - 1, context())
    with pytest.raises(ValueError, match=r"`labels` is \(7,\)"):
        step(images, labels[:7], context())
    parameters = dict(step.classifier.named_parameters())
    assert all(torch.equal(before[name], parameter) for name, parameter in parameters.items())
    with pytest.raises(TypeError, match=r"`labels` is torch.float32, but must be whole numbers"):
        step(images, labels.float(), context())
    with pytest.raises(ValueError, match="`label_smoothing` is 1"):
        linear_step(label_smoothing=1.5)


def trainer(folder: Path, total_images: int | None = None) -> Trainer:
    images, labels = batch(30, side=16)
    step = small_step(CONFIG.replace(resolution=16))
    return Trainer(
        step,
        TensorBatches(images, labels, seed=4),
        CosineSchedule(160, 8, 1e-2, warmup_images=16),
        run_dir=folder,
        seed=4,
        total_images=total_images,
        callbacks=[Measurements(lambda trainer: evaluate_classifier(step.classifier, *batch(9, side=16, seed=7)))],
        log_images=8,
        save_images=24,
    )


def test_a_run_in_two_parts_equals_one_in_one_piece(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole")
    assert whole.fit().finished
    assert trainer(tmp_path / "parts", total_images=56).fit().images_seen == 56
    torch.manual_seed(99)  # another process would have another global state
    rest = trainer(tmp_path / "parts")
    assert rest.fit().finished
    a, b = whole.step.state_dict(), rest.step.state_dict()
    assert all(torch.equal(a["classifier"][key], b["classifier"][key]) for key in a["classifier"])
    moments = [[value for state in part["optimizer"]["state"].values() for value in state.values()] for part in (a, b)]
    assert all(map(torch.equal, *moments))
    assert whole.log is not None
    assert rest.log is not None
    logged = [[r for r in part.log.read() if "loss" in r] for part in (whole, rest)]  # type: ignore[union-attr]
    assert logged[0] == logged[1]
    last = whole.log.read()[-1]
    assert {"val_loss", "val_accuracy"} <= last.keys()


def test_logits_come_from_evaluation_mode_whatever_the_batches_and_modes_come_back() -> None:
    model = small_step().classifier
    model(torch.rand(8, 1, 8, 8))  # running statistics
    model.blocks[0].eval()
    images, _ = batch(11)
    modes = [module.training for module in model.modules()]
    before = copy.deepcopy(model.state_dict())
    parts = [predict_logits(model, images, batch_size=size) for size in (1, 4, 512)]
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    expected = copy.deepcopy(model).eval()(images.float() / 127.5 - 1).detach()
    for part in parts:
        assert (part.dtype, part.requires_grad) == (torch.float32, False)
        torch.testing.assert_close(part, expected, **for_dtype(torch.float32))


def test_modes_come_back_after_an_error_too() -> None:
    model = small_step().classifier
    with pytest.raises(ValueError, match="`images`"):
        predict_logits(model, torch.zeros(2, 1, 9, 9))
    assert model.training


class Fixed(nn.Module):
    """Gives its input as logits."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_validation_written_out() -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 3.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]], dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 0])
    exp = np.exp(logits.numpy())
    loss = -np.log(exp[np.arange(4), labels.numpy()] / exp.sum(1)).mean()
    results = [evaluate_classifier(Fixed(), logits, labels, batch_size=size) for size in (1, 3, 100)]
    results.append(
        evaluate_classifier(Fixed(), [(logits[:1], labels[:1]), (logits[:0], labels[:0]), (logits[1:], labels[1:])])
    )
    for result in results:
        assert result.keys() == {"val_loss", "val_accuracy"}
        assert result["val_accuracy"] == 0.75
        np.testing.assert_allclose(result["val_loss"], loss, **for_dtype(torch.float64))


def test_validation_refuses_what_does_not_fit() -> None:
    logits, labels = torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ValueError, match="`labels` is None"):
        evaluate_classifier(Fixed(), logits)
    with pytest.raises(ValueError, match=r"`labels` is \(3,\), but must be \[4\]"):
        evaluate_classifier(Fixed(), logits, labels[:3])
    with pytest.raises(ValueError, match="must be None where"):
        evaluate_classifier(Fixed(), [(logits, labels)], labels)
    with pytest.raises(ValueError, match="from 5 to 5'"):
        evaluate_classifier(Fixed(), logits, labels + 5)
    with pytest.raises(ValueError, match="`batch_size` is 0"):
        predict_logits(Fixed(), logits, batch_size=0)
    for images, truth in ((logits[:0], labels[:0]), ([], None), ([(logits[:0], labels[:0])], None)):
        with pytest.raises(EmptyDatasetError):
            evaluate_classifier(Fixed(), images, truth)
    with pytest.raises(EmptyDatasetError):
        predict_logits(Fixed(), logits[:0])


@pytest.mark.parametrize("smoothing", [0.0, 0.25])
@pytest.mark.parametrize("micro_batch", [None, 2])
def test_class_weights_written_out(smoothing: float, micro_batch: int | None) -> None:
    """The loss is sum(w_y * l) / sum(w_y), of the whole batch whatever its parts; a smoothed share has its own w."""
    w = np.array([0.5, 1.0, 4.0])
    step = linear_step(class_weights=torch.from_numpy(w), label_smoothing=smoothing, micro_batch=micro_batch)
    W = step.classifier.linear.weight.detach().numpy().copy()
    x = np.random.default_rng(0).normal(size=(6, 4))
    labels = np.array([0, 0, 2, 2, 1, 1])  # parts of two have different weights
    logits = x @ W.T
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    target = ((1 - smoothing) * np.eye(3)[labels] + smoothing / 3) * w
    log = step(torch.from_numpy(x), torch.from_numpy(labels), context(learning_rate=0.1))
    double, total = for_dtype(torch.float64), w[labels].sum()
    np.testing.assert_allclose(log["loss"].item(), -(target * np.log(softmax)).sum() / total, **double)
    gradient = (target.sum(1, keepdims=True) * softmax - target).T @ x / total
    np.testing.assert_allclose(step.classifier.linear.weight.detach().numpy(), W - 0.1 * gradient, **double)
    if micro_batch is None:
        expected = nn.functional.cross_entropy(
            torch.from_numpy(logits), torch.from_numpy(labels), torch.from_numpy(w), label_smoothing=smoothing
        )
        np.testing.assert_allclose(log["loss"].item(), expected.item(), **double)


def test_equal_class_weights_of_any_size_change_nothing() -> None:
    x, labels = torch.randn(6, 4, dtype=torch.float64), torch.arange(6) % 3
    plain, weighted = linear_step(), linear_step(class_weights=torch.full((3,), 7.0))
    for step in (plain, weighted):
        step(x, labels, context(learning_rate=0.1))
    a, b = (step.classifier.linear.weight.detach() for step in (plain, weighted))
    torch.testing.assert_close(a, b, **for_dtype(torch.float64))


def test_balanced_class_weights_by_hand() -> None:
    weights = balanced_class_weights(torch.tensor([0, 0, 0, 1, 2, 2]), 3)
    np.testing.assert_allclose(weights.numpy(), [2 / 3, 2.0, 1.0], **for_dtype(torch.float32))
    with pytest.raises(ValueError, match=r"`labels` is .without the classes \[3\]."):
        balanced_class_weights(torch.tensor([0, 1, 2]), 4)
    with pytest.raises(ValueError, match=r"`labels` is .from 0 to 2., but must be from 0 to 1"):
        balanced_class_weights(torch.tensor([0, 1, 2]), 2)
    with pytest.raises(TypeError, match="whole numbers"):
        balanced_class_weights(torch.tensor([0.0]), 1)


@pytest.mark.parametrize("weights", [[1.0, 0.0, 1.0], [1.0, -1.0, 1.0], [1.0, float("inf"), 1.0], [float("nan")] * 3])
def test_class_weights_that_are_none_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match=r"`class_weights` is .* finite and above 0"):
        linear_step(class_weights=torch.tensor(weights))


def test_class_weights_of_another_kind_or_number_are_refused() -> None:
    with pytest.raises(TypeError, match="floating point"):
        linear_step(class_weights=torch.ones(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"`class_weights` is .of 4 classes., but must be of 3"):
        linear_step(class_weights=torch.ones(4))(torch.zeros(2, 4).double(), torch.tensor([0, 1]), context())
    with pytest.raises(ValueError, match=r"`labels` is .from 0 to 2., but must be from 0 to 1"):
        linear_step(class_weights=torch.ones(2))(torch.zeros(2, 4).double(), torch.tensor([0, 2]), context())


def test_features_are_what_the_last_layer_sees() -> None:
    model = SmallClassifier(CONFIG)
    images, _ = batch(5)
    features = predict_features(model, images, batch_size=2)
    assert model.training
    by_hand = model.eval().head(features)
    torch.testing.assert_close(by_hand, predict_logits(model, images), **for_dtype(torch.float32))
    with pytest.raises(EmptyDatasetError):
        predict_features(model, images[:0])
    with pytest.raises(TypeError, match="Identity has no method `features`"):
        predict_features(nn.Identity(), images)
