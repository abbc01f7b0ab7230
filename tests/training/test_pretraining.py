"""A stack trained stage by stage: what each stage is given, that earlier ones stay, and that a stop loses nothing."""

import functools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ganblocks.data import TensorBatches
from ganblocks.errors import EmptyDatasetError, GanblocksError, RunMismatchError
from ganblocks.functional.image_range import intensities
from ganblocks.models.autoencoder import DenseAutoencoder
from ganblocks.models.stacked import StackedClassifier, StackedClassifierConfig, autoencoder_configs
from ganblocks.models.unrolled import UnrolledAutoencoder
from ganblocks.training import Callback, ConstantSchedule, Trainer
from ganblocks.training.autoencoder_step import evaluate_autoencoder
from ganblocks.training.pretraining import PretrainedStack, encode_images, pretrain_stack
from ganblocks.training.randomness import derived_seed
from ganblocks.training.stacked_recipes import StackedRecipe, stacked_autoencoder
from tolerances import for_dtype

CONFIG = StackedClassifierConfig(resolution=4, num_classes=3, widths=(8, 6, 5))
RECIPE = stacked_autoencoder(pretrain_epochs=2, batch_size=8, pretrain_learning_rate=1e-2, decay="constant")
Weights = dict[str, Tensor]


def batch(count: int = 24, *, seed: int = 0) -> Tensor:
    """Two kinds of images: bright above or below."""
    rng = torch.Generator().manual_seed(seed)
    noise = torch.randint(0, 80, (count, 1, 4, 4), generator=rng)
    noise[::2, :, :2] += 160
    noise[1::2, :, 2:] += 160
    return noise.to(torch.uint8)


def stages(stacking: str = "greedy", *, tied: bool = False) -> list[Callable[[], nn.Module]]:
    return [functools.partial(DenseAutoencoder, part) for part in autoencoder_configs(CONFIG, stacking, tied=tied)]  # type: ignore[arg-type]


def pretrain(
    count: int = 3, *, recipe: StackedRecipe = RECIPE, tied: bool = False, **options: object
) -> PretrainedStack:
    images = batch()
    options = {"stacking": recipe.stacking, "seed": 5, **options}
    parts = stages(recipe.stacking, tied=tied)[:count]
    schedule = recipe.pretraining_schedule(len(images))
    return pretrain_stack(images, parts, recipe.build_autoencoder_step, schedule, **options)  # type: ignore[arg-type]


def weights(stack: PretrainedStack) -> list[Weights]:
    return [dict(part.state_dict()) for part in stack.autoencoders]


def equal(a: Weights, b: Weights) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class StopAt(Callback):
    """Asks for the end of the run once, after so many images."""

    def __init__(self, images: int) -> None:
        self.images = images

    def on_step(self, trainer: Trainer, previous: int) -> None:
        if previous < self.images <= trainer.images_seen:
            trainer.request_stop()


def stopping(name: str, images: int) -> Callable[[str], Sequence[Callback]]:
    """Callbacks that stop one stage; the others get one that does nothing, as a directory keeps their number."""
    return lambda stage: [StopAt(images if stage == name else 0)]


def test_each_stage_is_an_ordinary_run_on_the_codes_of_the_one_before() -> None:
    """Written out: initial weights, codes, their division, and the trainer, stage after stage."""
    stack = pretrain()
    inputs, prepare = batch(), intensities
    for index, (build, trained) in enumerate(zip(stages(), stack.autoencoders, strict=True), start=1):
        torch.manual_seed(derived_seed(5, "autoencoder", index))
        autoencoder = build()
        step = RECIPE.build_autoencoder_step(autoencoder, prepare=prepare)  # type: ignore[arg-type]
        Trainer(step, TensorBatches(inputs, seed=5), ConstantSchedule(48, 8, 1e-2), seed=5).fit()
        assert equal(dict(autoencoder.state_dict()), dict(trained.state_dict()))
        with torch.no_grad():
            codes = autoencoder.encode(inputs if prepare is None else prepare(inputs))  # type: ignore[operator, misc]
        normalization = stack.normalizations[index - 1]
        assert normalization is not None
        mean, scale = normalization
        values = codes.double().numpy()
        np.testing.assert_allclose(mean.numpy(), values.mean(0), **for_dtype(torch.float32))
        np.testing.assert_allclose(scale, np.sqrt(values.var(0).mean()), **for_dtype(torch.float32))
        inputs, prepare = (codes - mean) / scale, None  # type: ignore[assignment]


def test_earlier_stages_stay_bit_for_bit() -> None:
    one, two, three = (weights(pretrain(count)) for count in (1, 2, 3))
    assert equal(one[0], two[0])
    assert equal(one[0], three[0])
    assert equal(two[1], three[1])


def test_the_global_random_state_does_not_matter_and_is_not_touched() -> None:
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        results.append(weights(pretrain(2)))
        assert torch.equal(torch.get_rng_state(), before)
    assert all(map(equal, *results))
    assert not equal(weights(pretrain(1, seed=6))[0], results[0][0])


def test_for_reuse_each_is_trained_on_the_images_by_itself() -> None:
    recipe = RECIPE.replace(stacking="latent_reuse")
    stack = pretrain(2, recipe=recipe)
    assert stack.normalizations == (None, None)
    torch.manual_seed(derived_seed(5, "autoencoder", 2))
    alone = stages("latent_reuse")[1]()
    Trainer(
        recipe.build_autoencoder_step(alone), TensorBatches(batch(), seed=5), ConstantSchedule(48, 8, 1e-2), seed=5
    ).fit()
    assert equal(dict(alone.state_dict()), weights(stack)[1])


def test_codes_may_stay_as_they_are() -> None:
    stack = pretrain(2, normalize_codes=False)
    assert stack.normalizations == (None, None)
    codes = encode_images(stack.autoencoders[0], batch())
    torch.manual_seed(derived_seed(5, "autoencoder", 2))
    second = stages()[1]()
    step = RECIPE.build_autoencoder_step(second, prepare=None)
    Trainer(step, TensorBatches(codes, seed=5), ConstantSchedule(48, 8, 1e-2), seed=5).fit()
    assert equal(dict(second.state_dict()), weights(stack)[1])


@pytest.mark.parametrize("tied", [False, True])
def test_pretraining_and_unrolled_training_lower_the_error_of_what_is_rebuilt(tied: bool) -> None:
    recipe = RECIPE.replace(pretrain_epochs=12, masking=0.0)
    options = {"unroll": UnrolledAutoencoder, "unrolled_schedule": ConstantSchedule(480, 8, 1e-2)}
    stack = pretrain(recipe=recipe, tied=tied, **options)
    greedy = pretrain(recipe=recipe, tied=tied)
    fresh = UnrolledAutoencoder([build() for build in stages(tied=tied)])  # type: ignore[misc]
    assert stack.unrolled is not None
    assert greedy.unrolled is None
    networks = (fresh, UnrolledAutoencoder(greedy.autoencoders, greedy.normalizations), stack.unrolled)  # type: ignore[arg-type]
    errors = [evaluate_autoencoder(network, batch(seed=9))["val_mse"] for network in networks]
    assert errors[0] > 1.2 * errors[1] > 1.2**2 * errors[2]
    last = stack.normalizations[-1]
    assert last is not None
    codes = encode_images(stack.unrolled, batch())
    torch.testing.assert_close(last[0], codes.mean(0), **for_dtype(torch.float32))  # of the codes as they are now
    assert [result.images_seen for result in stack.results] == [288, 288, 288, 480]
    assert len(greedy.results) == 3


def test_classifiers_are_assembled_from_what_comes_back() -> None:
    stack = pretrain()
    model = StackedClassifier.assemble(CONFIG, stack.autoencoders, normalizations=stack.normalizations)  # type: ignore[arg-type]
    for own, part in zip(model.encoders, stack.autoencoders, strict=True):
        assert torch.equal(own.weight, part.encoder[1].weight)  # type: ignore[index, union-attr, arg-type]
        assert torch.equal(own.bias, part.encoder[1].bias)  # type: ignore[index, union-attr, arg-type]
    codes: Tensor = intensities(batch())
    for autoencoder, normalization in zip(stack.autoencoders, stack.normalizations, strict=True):
        assert normalization is not None
        mean, scale = normalization
        codes = (encode_images(autoencoder, codes, prepare=None) - mean) / scale
    assert abs(float(codes.mean())) < 1e-6
    torch.testing.assert_close(model.features(batch()), codes, **for_dtype(torch.float32))


UNROLLED = {"unroll": UnrolledAutoencoder}


@pytest.mark.parametrize("name", ["autoencoder-1", "autoencoder-2", "unrolled"])
def test_a_stop_anywhere_loses_nothing(name: str, tmp_path: Path) -> None:
    whole = pretrain(2, run_dir=tmp_path / "whole", callbacks=stopping("", 0), **UNROLLED)
    stopped = pretrain(2, run_dir=tmp_path / "parts", callbacks=stopping(name, 24), **UNROLLED)
    assert whole.finished
    assert not stopped.finished
    assert stopped.results[-1].images_seen == 24
    assert len(stopped.autoencoders) == (1 if name == "autoencoder-1" else 2)
    assert (tmp_path / "parts" / name).is_dir()
    torch.manual_seed(99)  # another process would have another global state
    rest = pretrain(2, run_dir=tmp_path / "parts", callbacks=stopping("", 0), **UNROLLED)
    assert rest.finished
    assert rest.exit_code == 0
    assert all(map(equal, weights(whole), weights(rest)))
    for a, b in zip(whole.normalizations, rest.normalizations, strict=True):
        assert a is not None
        assert b is not None
        assert torch.equal(a[0], b[0])
        assert a[1] == b[1]


def test_what_is_done_is_read_and_not_trained_again(tmp_path: Path) -> None:
    first = pretrain(2, run_dir=tmp_path)
    logs = [path.read_text().count('"loss"') for path in sorted(tmp_path.glob("*/log.jsonl"))]
    again = pretrain(3, run_dir=tmp_path)
    assert logs == [path.read_text().count('"loss"') for path in sorted(tmp_path.glob("*/log.jsonl"))[:2]]
    assert all(map(equal, weights(first), weights(again)[:2]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["autoencoder-1", "autoencoder-2", "autoencoder-3"]


def test_a_stage_trained_on_other_codes_is_refused(tmp_path: Path) -> None:
    pretrain(2, run_dir=tmp_path)
    shutil.rmtree(tmp_path / "autoencoder-1")
    recipe = RECIPE.replace(pretrain_learning_rate=2e-2)
    with pytest.raises(RunMismatchError, match="schedule"):
        pretrain(2, run_dir=tmp_path, recipe=recipe)  # the second directory has another schedule
    shutil.rmtree(tmp_path / "autoencoder-1")
    pretrain_other = functools.partial(pretrain, run_dir=tmp_path, recipe=RECIPE.replace(masking=0.5))
    with pytest.raises(RunMismatchError, match=r"inputs: '[0-9a-f]{16}' there, '[0-9a-f]{16}' now"):
        pretrain_other(2)


def test_other_images_and_settings_are_refused(tmp_path: Path) -> None:
    pretrain(1, run_dir=tmp_path, settings={"masking": 0.25})
    with pytest.raises(RunMismatchError, match="masking"):
        pretrain(1, run_dir=tmp_path, settings={"masking": 0.5})
    with pytest.raises(RunMismatchError, match="inputs"):
        pretrain_stack(
            batch(seed=1),
            stages()[:1],
            RECIPE.build_autoencoder_step,
            RECIPE.pretraining_schedule(24),
            run_dir=tmp_path,
            seed=5,
            settings={"masking": 0.25},
        )


class Dead(DenseAutoencoder):
    """Says nothing about any image."""

    def encode(self, images: Tensor) -> Tensor:
        return super().encode(images) * 0.0


def test_codes_that_say_nothing_are_told() -> None:
    first = autoencoder_configs(CONFIG)[0]
    schedule = RECIPE.pretraining_schedule(24)
    builds = [functools.partial(Dead, first), *stages()[1:]]
    with pytest.raises(GanblocksError, match=r"the spread of the codes of 24 images is 0\.0"):
        pretrain_stack(batch(), builds, RECIPE.build_autoencoder_step, schedule)


def test_what_does_not_fit_is_told_before_training() -> None:
    with pytest.raises(ValueError, match="`stacking` is 'none'"):
        pretrain(stacking="none")
    with pytest.raises(ValueError, match=r"`stages` is \[\]"):
        pretrain(0)
    with pytest.raises(ValueError, match=r"`unroll` is .* but must be None for latent_reuse"):
        pretrain(recipe=RECIPE.replace(stacking="latent_reuse"), **UNROLLED)
    with pytest.raises(EmptyDatasetError):
        pretrain_stack(batch(0), stages(), RECIPE.build_autoencoder_step, RECIPE.pretraining_schedule(24))


class Halving(nn.Module):
    """Encodes to half of each value in evaluation mode, to a third in training."""

    def __init__(self) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.tensor(0.5))

    def encode(self, x: Tensor) -> Tensor:
        return x.flatten(1) * (self.share if not self.training else self.share / 1.5)


def test_codes_come_from_evaluation_mode_in_order_whatever_the_batches() -> None:
    network = Halving()
    images = batch(11)
    for size in (1, 4, 1024):
        codes = encode_images(network, images, batch_size=size)
        assert network.training
        assert not codes.requires_grad
        torch.testing.assert_close(codes, images.flatten(1).float() / 510, **for_dtype(torch.float32))
    assert torch.equal(encode_images(network, torch.ones(2, 3), prepare=None), torch.full((2, 3), 0.5))
    with pytest.raises(EmptyDatasetError):
        encode_images(network, images[:0])
    with pytest.raises(ValueError, match="`batch_size` is 0"):
        encode_images(network, images, batch_size=0)
