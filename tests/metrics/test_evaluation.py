"""One pass over the images gives what the metrics give on their own, and leaves everything as it was."""

import dataclasses
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ganblocks.errors import (
    DistributedError,
    EmptyDatasetError,
    FingerprintMismatchError,
    MetricError,
    SmallSampleWarning,
)
from ganblocks.functional import from_uint8
from ganblocks.metrics.evaluation import METRICS, evaluate
from ganblocks.metrics.features import FeatureExtractor, Features
from ganblocks.metrics.frechet import frechet_distance
from ganblocks.metrics.inception_score import inception_score
from ganblocks.metrics.input_spec import InputSpec
from ganblocks.metrics.kid import kernel_distance
from ganblocks.metrics.ms_ssim import ms_ssim_diversity
from ganblocks.metrics.nearest import memorisation
from ganblocks.metrics.prdc import prdc
from ganblocks.metrics.statistics import Statistics
from ganblocks.metrics.swd import progan_swd

pytestmark = pytest.mark.filterwarnings("ignore::ganblocks.errors.SmallSampleWarning")  # a few dozen images

OPTIONS: dict[str, dict[str, Any]] = {
    "kid": {"num_subsets": 3},
    "is": {"splits": 3},
    "prdc": {"nearest_k": 2},
    "swd": {"num_directions": 8, "patches_per_image": 4},
    "ms_ssim": {"num_pairs": 7},
}


class Network(nn.Module):
    """A layer with dropout and running averages: it gives itself away if it is used in training mode."""

    def __init__(self, logits: bool = True) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.BatchNorm1d(48), nn.Dropout(0.5))
        self.logits = logits

    def forward(self, images: Tensor) -> Tensor | Features:
        features: Tensor = self.layers(images)[:, :6]
        return Features(features, features[:, :3]) if self.logits else features


@pytest.fixture
def extractor() -> FeatureExtractor:
    return FeatureExtractor(Network().train(), InputSpec(), name="network")


def images(count: int, seed: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, 16, 16), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


REAL, FAKE, HELD_OUT = images(30, 1), images(20, 2), images(10, 3)


def rows(extractor: FeatureExtractor, pictures: Tensor) -> Tensor:
    return extractor(pictures).features


def statistics(extractor: FeatureExtractor, pictures: Tensor) -> Statistics:
    running = extractor.extract(pictures.split(7)).statistics
    assert running is not None
    return running.compute()


def test_all_scores_are_those_of_the_metrics_themselves(extractor: FeatureExtractor) -> None:
    found = evaluate(REAL, FAKE, METRICS, extractor=extractor, held_out=HELD_OUT, options=OPTIONS, seed=5).scores
    real, fake, held_out = (rows(extractor, pictures) for pictures in (REAL, FAKE, HELD_OUT))
    name = f"{extractor.fingerprint} of 3x16x16 images"
    assert found["frechet_distance"] == frechet_distance(statistics(extractor, REAL), statistics(extractor, FAKE))
    assert found["kernel_distance"] == kernel_distance(
        real, fake, subset_size=20, num_subsets=3, seed=5, extractor=name
    )
    assert found["inception_score"] == inception_score(extractor(FAKE).logits, splits=3, shuffle_seed=5, extractor=name)
    for key, score in prdc(real, fake, nearest_k=2, extractor=name).items():
        assert found[key] == score
    distances = progan_swd(REAL, FAKE, num_directions=8, patches_per_image=4, seed=5)
    assert {key: score.value for key, score in found.items() if "swd" in key} == {"swd_16": distances[16]}
    assert found["swd_16"].counts == {"real": 30, "fake": 20}
    diversity = ms_ssim_diversity(FAKE, num_pairs=7, seed=5)
    of_pixels = {"image": [3, 16, 16], "preparation": ""}
    assert found["ms_ssim"] == dataclasses.replace(diversity, settings={**diversity.settings, **of_pixels})
    assert found["memorisation_features"].value == memorisation(fake, real, held_out).value
    assert found["memorisation_pixels"].value == memorisation(FAKE, REAL, HELD_OUT).value
    assert found["memorisation_features"].settings["extractor"] == name
    assert found["memorisation_pixels"].settings["extractor"] is None
    assert len(found) == 11


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batches_and_their_size_do_not_matter(extractor: FeatureExtractor, batch_size: int) -> None:
    asked: dict[str, Any] = {"metrics": METRICS, "extractor": extractor, "options": OPTIONS}
    whole = evaluate(REAL, FAKE, held_out=HELD_OUT, batch_size=batch_size, **asked)
    parts = evaluate(iter(REAL.split(4)), list(FAKE.split(3)), held_out=HELD_OUT.split(9), **asked)
    assert parts.to_dict() == whole.to_dict()


def test_images_in_minus_one_to_one_are_those_bytes(extractor: FeatureExtractor) -> None:
    asked: dict[str, Any] = {"metrics": ("fd", "swd", "ms_ssim"), "extractor": extractor}
    asked["options"] = {name: OPTIONS[name] for name in ("swd", "ms_ssim")}
    floats = evaluate(from_uint8(REAL), from_uint8(FAKE), **asked)
    assert floats.to_dict() == evaluate(REAL, FAKE, **asked).to_dict()


def test_twice_gives_the_same_json_and_touches_nothing(extractor: FeatureExtractor) -> None:
    network = extractor.network
    modes = {name: layer.training for name, layer in network.named_modules()}
    network.layers[3].eval()  # one layer in another mode than the rest
    modes["layers.3"] = False
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    states = random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state()

    def text() -> str:
        found = evaluate(REAL, FAKE, METRICS, extractor=extractor, held_out=HELD_OUT, options=OPTIONS)
        return json.dumps(found.to_dict())

    assert text() == text()
    assert {name: layer.training for name, layer in network.named_modules()} == modes
    assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())
    assert random.getstate() == states[0]
    assert str(np.random.get_state(legacy=False)) == str(states[1])
    assert torch.equal(torch.get_rng_state(), states[2])


def test_another_seed_is_another_draw(extractor: FeatureExtractor) -> None:
    options = {"kid": {"num_subsets": 2, "subset_size": 5}}
    first, second = (evaluate(REAL, FAKE, ["kid"], extractor=extractor, options=options, seed=seed) for seed in (0, 1))
    assert first["kernel_distance"].value != second["kernel_distance"].value
    with pytest.raises(FingerprintMismatchError, match="seed 0 against 1"):
        first["kernel_distance"].difference(second["kernel_distance"])


def test_saved_statistics_stand_for_the_real_images(extractor: FeatureExtractor, tmp_path: Path) -> None:
    statistics(extractor, REAL).save(tmp_path / "real.npz")
    saved = Statistics.load(tmp_path / "real.npz")
    expected = evaluate(REAL, FAKE, ["fd"], extractor=extractor)
    assert evaluate(saved, FAKE, ["fd"], extractor=extractor).to_dict() == expected.to_dict()
    with pytest.raises(ValueError, match="fd alone"):
        evaluate(saved, FAKE, ["fd", "kid"], extractor=extractor)


def test_statistics_of_another_extractor_do_not_compare(extractor: FeatureExtractor) -> None:
    other = FeatureExtractor(Network(), InputSpec(value_range=(0.0, 1.0)), name="network")
    with pytest.raises(FingerprintMismatchError):
        evaluate(statistics(other, REAL), FAKE, ["fd"], extractor=extractor)
    found = evaluate(
        statistics(other, REAL), FAKE, ["fd"], extractor=extractor, options={"fd": {"allow_mismatch": True}}
    )
    assert found["frechet_distance"].value > 0


def test_only_what_is_asked_for_is_kept(extractor: FeatureExtractor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Frechet distance alone streams: no batch is alive when the one after the next is made."""
    alive: list[Any] = []

    def stream(pictures: Tensor) -> Iterator[Tensor]:
        import weakref

        for part in pictures.split(5):
            batch = part.clone()
            alive.append(weakref.ref(batch))
            assert sum(reference() is not None for reference in alive) <= 3
            yield batch

    evaluate(stream(REAL), stream(FAKE), ["fd"], extractor=extractor)
    assert len(alive) == 10


def test_pixels_alone_need_no_extractor() -> None:
    found = evaluate(REAL, FAKE, ["ms_ssim", "swd"], options={name: OPTIONS[name] for name in ("swd", "ms_ssim")})
    assert list(found.scores) == ["ms_ssim", "swd_16"]


def test_the_number_of_images_of_the_patch_distance_can_be_bounded() -> None:
    options = {"swd": {**OPTIONS["swd"], "num_images": 5}}
    score = evaluate(REAL, FAKE, ["swd"], options=options)["swd_16"]
    assert score.counts == {"real": 5, "fake": 5}
    assert score.value == progan_swd(REAL[:5], FAKE[:5], num_directions=8, patches_per_image=4)[16]


def test_progress_is_told_set_by_set(extractor: FeatureExtractor) -> None:
    told: list[tuple[str, int]] = []
    evaluate(REAL, FAKE, ["fd"], extractor=extractor, batch_size=16, progress=lambda *seen: told.append(seen))
    assert told == [("real", 16), ("real", 30), ("fake", 16), ("fake", 20)]


def test_the_table_has_a_line_for_each_score(extractor: FeatureExtractor) -> None:
    found = evaluate(REAL, FAKE, ["fd", "kid"], extractor=extractor)
    head, first, second = str(found).splitlines()
    assert head.split() == ["score", "value", "spread", "real", "fake", "fingerprint"]
    assert first.split() == [
        "frechet_distance",
        f"{found['frechet_distance'].value:.6g}",
        "30",
        "20",
        found["frechet_distance"].fingerprint,
    ]
    assert second.split()[0] == "kernel_distance"
    assert len({line.index(line.split()[-1]) for line in (head, first, second)}) == 1


def test_a_small_sample_warns_but_counts() -> None:
    wide = FeatureExtractor(nn.Sequential(nn.AvgPool2d(2), nn.Flatten()), InputSpec(), name="wide")
    with pytest.warns(SmallSampleWarning):
        found = evaluate(REAL, FAKE, ["fd"], extractor=wide)
    assert found["frechet_distance"].counts == {"real": 30, "fake": 20}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"metrics": ()}, ValueError, "at least one of fd, kid"),
        ({"metrics": ("fid",)}, ValueError, "'fid', but must be one of fd, kid"),
        ({"extractor": None}, ValueError, "`extractor` is None"),
        ({"options": {"kid": {}}}, ValueError, r"\['kid'\], but must be of metrics that are asked for"),
        ({"options": {"fid": {}}}, ValueError, "'fid'"),
        ({"metrics": ("memorisation",)}, ValueError, "`held_out` is None"),
        ({"real": []}, EmptyDatasetError, "`real` has no image"),
        ({"fake": FAKE[:0]}, EmptyDatasetError, "`fake` has no image"),
        ({"fake": FAKE[0]}, ValueError, "fake"),
        ({"fake": FAKE[:, :, :8], "metrics": ("swd",)}, ValueError, r"\[3, 8, 16\] and `real` of \[3, 16, 16\]"),
        ({"fake": FAKE[:, :1]}, ValueError, r"\[1, 16, 16\] and `real` of \[3, 16, 16\]"),
        ({"fake": [FAKE, FAKE[:, :, :8]]}, ValueError, "3x16x16 and of 3x8x16; all must have one size"),
        ({"fake": FAKE.double()}, ValueError, r"in \[-1, 1\]"),
        ({"fake": FAKE.double(), "metrics": ("swd",)}, ValueError, r"in \[-1, 1\]"),
        ({"fake": FAKE.double() / torch.nan, "metrics": ("swd",)}, MetricError, "NaN"),
        ({"fake": FAKE.double() / torch.nan, "metrics": ("ms_ssim",)}, MetricError, "NaN"),
        ({"sharded": True}, DistributedError, "no process group"),
    ],
)
def test_mistakes_are_named(
    extractor: FeatureExtractor, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    asked = {"real": REAL, "fake": FAKE, "metrics": ("fd",), "extractor": extractor, **changes}
    with pytest.raises(error, match=message):
        evaluate(asked.pop("real"), asked.pop("fake"), asked.pop("metrics"), **asked)


@pytest.mark.parametrize(
    "wrong",
    [
        {"metrics": ["memorisation"]},
        {"metrics": ["kid"], "options": {"kid": {"subsets": 3}}},
        {"metrics": ["kid"], "options": {"kid": {"extractor": "x"}}},
        {"metrics": ["fd"], "extractor": None},
    ],
)
def test_what_is_wrong_with_the_call_is_told_before_anything_is_read(
    extractor: FeatureExtractor, wrong: dict[str, Any]
) -> None:
    def never() -> Iterator[Tensor]:
        raise AssertionError("a batch was read")
        yield

    with pytest.raises(ValueError, match=r"held_out|'subsets'\], but must be of coef0|'extractor'\], but|`extractor`"):
        evaluate(never(), never(), **{"extractor": extractor, **wrong})


def test_a_score_that_is_not_there_tells_those_that_are(extractor: FeatureExtractor) -> None:
    with pytest.raises(KeyError, match="no score 'fd', but: frechet_distance"):
        evaluate(REAL, FAKE, ["fd"], extractor=extractor)["fd"]


def test_size_and_preparation_of_the_images_are_part_of_every_fingerprint() -> None:
    extractor = FeatureExtractor(nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten()), InputSpec(), name="any size")
    sets = [pictures.repeat(1, 1, 2, 2) for pictures in (REAL, FAKE, HELD_OUT)]
    metrics = [name for name in METRICS if name != "is"]
    options = {name: chosen for name, chosen in OPTIONS.items() if name != "is"}

    def scored(real: Tensor, fake: Tensor, held_out: Tensor, preparation: str) -> dict[str, str]:
        found = evaluate(
            real, fake, metrics, extractor=extractor, held_out=held_out, options=options, preparation=preparation
        )
        return {name: score.fingerprint for name, score in found.scores.items()}

    cases = [scored(*sets, ""), scored(*sets, "center crop"), scored(REAL, FAKE, HELD_OUT, "")]
    cases.append(scored(*(pictures[:, :1] for pictures in sets), ""))
    for name in cases[2]:
        assert len({case[name] for case in cases}) == 4, name


def test_ddof_can_be_chosen(extractor: FeatureExtractor) -> None:
    found = evaluate(REAL, FAKE, ["fd"], extractor=extractor, options={"fd": {"ddof": 0}})["frechet_distance"]
    moments = [extractor.extract(pictures).statistics.compute(ddof=0) for pictures in (REAL, FAKE)]
    assert found == frechet_distance(*moments)
    assert found.settings["ddof"] == 0


def test_a_network_without_logits_has_no_inception_score() -> None:
    silent = FeatureExtractor(Network(logits=False), InputSpec(), name="silent")
    with pytest.raises(ValueError, match="features alone"):
        evaluate(REAL, FAKE, ["is"], extractor=silent)
