"""The way into a feature network, the conditions it runs under, and the fingerprint that names them."""

import hashlib
import math
import struct
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ganblocks.errors import MetricError
from ganblocks.functional.image_range import from_uint8
from ganblocks.metrics.features import Extracted, FeatureExtractor, Features, full_float32
from ganblocks.metrics.input_spec import InputSpec
from ganblocks.metrics.statistics import RunningStatistics
from tolerances import for_dtype, named

EXACT, FLOAT32 = named("exact"), for_dtype(torch.float32)
AS_BYTES = InputSpec(value_range=(0, 255))  # the network sees the bytes themselves


class Network(nn.Module):
    """Convolution, normalisation, dropout and two heads: everything that a mode changes."""

    def __init__(self, channels=3, dimension=8):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, dimension, 3), nn.BatchNorm2d(dimension), nn.Dropout(0.5))
        self.head = nn.Linear(dimension, 4)

    def forward(self, images):
        features = self.body(images).relu().mean(dim=(2, 3))
        return features, self.head(features)


class Answer(nn.Module):
    """Whatever a function makes of the input."""

    def __init__(self, function=lambda images: images.flatten(1)):
        super().__init__()
        self.function = function

    def forward(self, images):
        return self.function(images)


def pixels(*shape, seed=0):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def inputs(images, spec=AS_BYTES):
    """What the network sees, flattened."""
    return FeatureExtractor(Answer(), spec, name="input")(images).features


# ---- the way in


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_none_of_the_256_levels_is_lost_as_floats(dtype):
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    torch.testing.assert_close(inputs(from_uint8(levels, dtype=dtype)), levels.flatten(1).float(), **EXACT)


@given(
    level=st.integers(0, 255),
    part=st.floats(-0.49, 0.49),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_floats_are_rounded_to_the_nearest_byte(level, part, dtype):
    images = torch.full((1, 3, 2, 2), (level + part) / 127.5 - 1, dtype=dtype)
    assert inputs(images).unique().tolist() == [level]


# ---- the conditions


def test_features_and_logits_come_in_float32_and_the_dimension_is_learned():
    extractor = FeatureExtractor(Network(), InputSpec(6), name="toy")
    assert extractor.dimension is None
    found = extractor(pixels(5, 1, 9, 9))
    assert isinstance(found, Features)
    assert (found.features.shape, found.logits.shape) == ((5, 8), (5, 4))
    assert found.features.dtype == found.logits.dtype == torch.float32
    assert not found.features.requires_grad
    assert extractor.dimension == 8
    alone = FeatureExtractor(Answer(lambda images: images.double().mean(dim=(2, 3))), InputSpec(), name="means")
    assert alone(pixels(2, 3, 4, 4)).logits is None
    assert alone(pixels(2, 3, 4, 4)).features.dtype == torch.float32
    assert FeatureExtractor(Network(), InputSpec(), name="toy", dimension=8).dimension == 8


def modes(network):
    return [module.training for module in network.modules()]


@pytest.mark.parametrize("mixed", [False, True])
def test_the_network_runs_in_evaluation_mode_and_gets_its_own_modes_back(mixed):
    network = Network().train()
    if mixed:
        network.body[1].eval()
    before, state = modes(network), {key: value.clone() for key, value in network.state_dict().items()}
    images = pixels(4, 3, 8, 8)
    first = FeatureExtractor(network, InputSpec(), name="toy")(images)
    assert modes(network) == before
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    expected = network.eval()(from_uint8(images))
    torch.testing.assert_close(first, Features(*expected), **FLOAT32)


class Frozen(nn.Module):
    """A module that does more than set the flag when its mode changes."""

    def __init__(self):
        super().__init__()
        self.path = "train"

    def train(self, mode=True):
        self.path = "train" if mode else "eval"
        return super().train(mode)

    def forward(self, images):
        assert self.path == "eval"
        return images.flatten(1)


def test_a_module_with_its_own_train_method_is_told_of_both_changes():
    network = Frozen()
    FeatureExtractor(network, InputSpec(), name="frozen")(pixels(1, 3, 2, 2))
    assert network.path == "train"


def test_modes_come_back_after_an_error_too():
    network = nn.Sequential(Network(), Answer(lambda images: 1 / 0)).train()
    with pytest.raises(ZeroDivisionError):
        FeatureExtractor(network, InputSpec(), name="broken")(pixels(1, 3, 8, 8))
    assert all(modes(network))


def test_autocast_gradients_and_random_numbers_of_the_caller_stay_outside():
    extractor = FeatureExtractor(Network(), InputSpec(), name="toy")
    images = pixels(4, 3, 8, 8)
    expected, before = extractor(images), torch.get_rng_state()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = extractor(images)
        assert torch.is_autocast_enabled("cpu")
    torch.testing.assert_close(found, expected, **EXACT)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()


def test_lower_precision_of_products_is_off_inside_and_back_afterwards():
    backends = torch.backends
    switches = [backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv]
    seen = []

    def look(images):
        seen.extend(switch.fp32_precision for switch in switches)
        return images.flatten(1)

    asked = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        before = [switch.fp32_precision for switch in switches]
        FeatureExtractor(Answer(look), InputSpec(), name="look")(pixels(1, 3, 2, 2))
        after = [switch.fp32_precision for switch in switches]
    finally:
        torch.set_float32_matmul_precision(asked)
    assert {"tf32", "bf16"} <= set(before)
    assert not {"tf32", "bf16"} & set(seen)
    assert after == before


def precisions():
    backends = torch.backends
    switches = (backends.cudnn.conv, backends.cudnn.rnn, backends.mkldnn.conv, backends.mkldnn.rnn)
    return [switch.fp32_precision for switch in switches]


@pytest.fixture
def inherited():
    """What the switches say below each setting of those above, asked again; PyTorch 2.11's cuDNN ignores some."""

    def said():
        found = []
        for above, cudnn in (("ieee", "none"), ("ieee", "tf32"), ("tf32", "none"), ("bf16", "none"), ("none", "none")):
            torch.backends.fp32_precision, torch.backends.cudnn.fp32_precision = above, cudnn
            found.append(precisions())
        return found

    yield said
    torch.backends.cudnn.fp32_precision = torch.backends.fp32_precision = "none"


@pytest.mark.parametrize("cudnn", ["none", "tf32"])
@pytest.mark.parametrize("above", ["none", "ieee", "tf32", "bf16"])
def test_a_precision_that_was_inherited_is_inherited_again_afterwards(above, cudnn, inherited):
    at_first = inherited()
    torch.backends.fp32_precision, torch.backends.cudnn.fp32_precision = above, cudnn
    before = precisions()
    with full_float32(torch.device("cpu")):
        assert not {"tf32", "bf16"} & set(precisions())
    assert precisions() == before
    assert inherited() == at_first
    assert {"ieee", "tf32", "bf16"} <= {precision for each in at_first for precision in each}


def test_a_precision_of_its_own_stays_its_own():
    switch = torch.backends.mkldnn.conv
    try:
        switch.fp32_precision = "bf16"
        with full_float32(torch.device("cpu")):
            assert switch.fp32_precision == "ieee"
        torch.backends.fp32_precision = "ieee"
        assert switch.fp32_precision == "bf16"
    finally:
        switch.fp32_precision = torch.backends.fp32_precision = "none"


@given(cuts=st.lists(st.integers(1, 6), max_size=3, unique=True), size=st.sampled_from([None, 8]))
def test_the_batch_size_does_not_matter(cuts, size):
    extractor = FeatureExtractor(Network(), InputSpec(size), name="toy")
    images = pixels(7, 3, 12, 12)
    whole = extractor(images)
    edges = [0, *sorted(cuts), 7]
    parts = [extractor(images[start:end]) for start, end in pairwise(edges)]
    torch.testing.assert_close(torch.cat([part.features for part in parts]), whole.features, **FLOAT32)
    torch.testing.assert_close(torch.cat([part.logits for part in parts]), whole.logits, **FLOAT32)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_memory_format_of_the_images_does_not_matter(channels):
    extractor = FeatureExtractor(Network(channels), InputSpec(16, image_channels=channels), name="toy")
    images = pixels(2, 3, 9, 9)
    last = images.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(extractor(last), extractor(images), **EXACT)


# ---- the fingerprint


def test_the_fingerprint_is_the_hash_of_names_dtypes_shapes_and_bytes():
    network = nn.Module()
    network.register_buffer("b", torch.tensor([1.0, -2.0]))
    network.register_buffer("a", torch.tensor(7))
    content = b"a torch.int64 ()\n" + struct.pack("<q", 7) + b"b torch.float32 (2,)\n" + struct.pack("<2f", 1, -2)
    spec = InputSpec(4, image_channels=1)
    expected = f"by hand weights {hashlib.sha256(content).hexdigest()[:16]} input {spec.to_json()}"
    assert FeatureExtractor(network, spec, name="by hand").fingerprint == expected
    no_weights = hashlib.sha256(b"").hexdigest()[:16]
    assert f"weights {no_weights} " in FeatureExtractor(Answer(), spec, name="none").fingerprint


def test_the_fingerprint_depends_on_name_weights_and_spec_and_on_nothing_else():
    network = Network()
    print_of = FeatureExtractor(network, InputSpec(8), name="toy").fingerprint
    again = Network()
    again.load_state_dict(network.state_dict())
    again = again.to(memory_format=torch.channels_last).eval()
    assert FeatureExtractor(again, InputSpec(8), name="toy").fingerprint == print_of
    others = [
        FeatureExtractor(network, InputSpec(8), name="other"),
        FeatureExtractor(network, InputSpec(9), name="toy"),
        FeatureExtractor(network, InputSpec(8, "bilinear"), name="toy"),
        FeatureExtractor(Network(), InputSpec(8), name="toy"),
    ]
    again.body[1].running_mean[3] += 2.0**-20
    others.append(FeatureExtractor(again, InputSpec(8), name="toy"))
    assert len({print_of, *(other.fingerprint for other in others)}) == 6


def test_the_fingerprint_is_computed_once():
    network = Network()
    extractor = FeatureExtractor(network, InputSpec(8), name="toy")
    before = extractor.fingerprint
    nn.init.zeros_(network.head.bias)
    assert extractor.fingerprint == before
    assert FeatureExtractor(network, InputSpec(8), name="toy").fingerprint != before


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.complex64, torch.float64])
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_buffers_of_any_dtype_and_shape_have_a_fingerprint(dtype, shape):
    zeros, ones = Answer(), Answer()
    zeros.register_buffer("table", torch.zeros(shape, dtype=dtype))
    ones.register_buffer("table", torch.ones(shape, dtype=dtype))
    prints = {FeatureExtractor(network, InputSpec(), name="table").fingerprint for network in (zeros, ones)}
    assert len(prints) == (1 if 0 in shape else 2)


# ---- what is refused


@pytest.mark.parametrize(
    ("images", "error", "match"),
    [
        (torch.zeros(3, 4, 4, dtype=torch.uint8), ValueError, "4 dimensions"),
        (torch.zeros(0, 3, 4, 4, dtype=torch.uint8), ValueError, "at least one image"),
        (torch.zeros(2, 3, 0, 4), ValueError, "at least one image of at least one pixel"),
        (torch.zeros(2, 2, 4, 4, dtype=torch.uint8), ValueError, "of 1 or 3 channels"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.int64), TypeError, r"images\.dtype"),
        (torch.full((2, 3, 4, 4), 1.01), ValueError, r"in \[-1, 1\]"),
        (torch.full((2, 3, 4, 4), -255.0), ValueError, r"in \[-1, 1\]"),
        (torch.zeros(2, 3, 4, 4).index_put((torch.tensor(0),) * 4, torch.tensor(math.nan)), MetricError, "1 of 96"),
        (torch.full((1, 3, 1, 1), math.inf), MetricError, "`images` holds 3 of 3"),
        ([1, 2], TypeError, "must be a tensor"),
    ],
)
def test_images_that_mean_nothing_are_refused(images, error, match):
    with pytest.raises(error, match=match):
        FeatureExtractor(Answer(), InputSpec(), name="toy")(images)


def test_less_than_half_a_level_outside_is_rounding():
    assert inputs(torch.full((1, 3, 1, 1), 1.003)).tolist() == [[255, 255, 255]]
    assert inputs(torch.full((1, 3, 1, 1), -1.003)).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(
    "answer",
    [
        lambda images: images,
        lambda images: images.flatten(1)[:1],
        lambda images: images.flatten(1)[:, :0],
        lambda images: images.flatten(1).long(),
        lambda images: {"features": images.flatten(1)},
        lambda images: (images.flatten(1), images),
        lambda images: (images.flatten(1),) * 3,
        lambda images: (None, images.flatten(1)),
        lambda images: None,
    ],
)
def test_a_network_that_returns_something_else_gets_advice(answer):
    with pytest.raises(ValueError, match=r"must return features \[N, D\].*pooling and flatten"):
        FeatureExtractor(Answer(answer), InputSpec(), name="odd")(pixels(2, 3, 4, 4))


@pytest.mark.parametrize(("part", "match"), [(0, "features of bad"), (1, "logits of bad")])
def test_features_and_logits_must_be_finite(part, match):
    def answer(images):
        parts = [images.flatten(1), images.flatten(1)]
        parts[part] = parts[part] + math.inf
        return tuple(parts)

    with pytest.raises(MetricError, match=f"{match}` holds 96 of 96"):
        FeatureExtractor(Answer(answer), InputSpec(), name="bad")(pixels(2, 3, 4, 4))


def test_another_dimension_than_before_is_refused():
    extractor = FeatureExtractor(Answer(), InputSpec(), name="flat")
    extractor(pixels(1, 3, 4, 4))
    with pytest.raises(ValueError, match="27 values a feature, not 48"):
        extractor(pixels(1, 3, 3, 3))
    with pytest.raises(ValueError, match="48 values a feature, not 5"):
        FeatureExtractor(Answer(), InputSpec(), name="flat", dimension=5)(pixels(1, 3, 4, 4))


def test_half_precision_and_foreign_state_are_refused():
    with pytest.raises(TypeError, match=r"network\.body\.0\.weight.*float32"):
        FeatureExtractor(Network().bfloat16(), InputSpec(), name="half")

    class Stateful(nn.Module):
        def get_extra_state(self):
            return {"anything": 1}

    with pytest.raises(TypeError, match="_extra_state"):
        _ = FeatureExtractor(Stateful(), InputSpec(), name="extra").fingerprint


def test_bytes_are_prepared_and_floats_are_not():
    with pytest.raises(TypeError, match=r"torch\.uint8"):
        InputSpec().prepare(torch.zeros(1, 3, 4, 4))


# ---- whole sets


@given(cuts=st.lists(st.integers(0, 9), max_size=3), kept=st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_a_set_is_the_same_in_any_batches_and_only_what_is_asked_for_is_kept(cuts, kept):
    extractor = FeatureExtractor(Network(), InputSpec(), name="toy")
    images = pixels(9, 3, 6, 6)
    expected, edges, heard = extractor(images), [0, *sorted(cuts), 9], []
    batches = (images[start:end] for start, end in pairwise(edges))  # some empty
    found = extractor.extract(batches, statistics=kept[0], rows=kept[1], logits=kept[2], progress=heard.append)
    assert isinstance(found, Extracted)
    assert found.count == 9 == heard[-1]
    assert heard == sorted(set(heard))
    assert (found.statistics is not None, found.rows is not None, found.logits is not None) == kept
    if found.rows is not None:
        torch.testing.assert_close(found.rows, expected.features, **FLOAT32)
    if found.logits is not None:
        torch.testing.assert_close(found.logits, expected.logits, **FLOAT32)
    if found.statistics is not None:
        assert isinstance(found.statistics, RunningStatistics)
        moments = found.statistics.compute()
        rows = expected.features.double()
        assert (moments.count, moments.fingerprint) == (9, found.fingerprint)
        torch.testing.assert_close(torch.as_tensor(moments.mean), rows.mean(dim=0), **FLOAT32)
        torch.testing.assert_close(torch.as_tensor(moments.cov), rows.T.cov(), **FLOAT32)


def test_one_tensor_is_one_batch():
    found = FeatureExtractor(Network(), InputSpec(), name="toy").extract(pixels(3, 3, 6, 6), rows=True)
    assert found.rows.shape == (3, 8)
    assert found.statistics.count == 3


def test_sets_that_give_nothing_are_refused():
    extractor = FeatureExtractor(Answer(), InputSpec(), name="flat")
    for nothing in ([], [pixels(0, 3, 4, 4)]):
        with pytest.raises(ValueError, match="at least one"):
            extractor.extract(nothing)
    with pytest.raises(ValueError, match="returns features alone"):
        extractor.extract([pixels(1, 3, 4, 4)], logits=True)
    with pytest.raises(TypeError, match="`batches` is a list"):
        extractor.extract([[pixels(1, 3, 4, 4), 0]])


def test_the_printout_says_what_it_is():
    text = repr(FeatureExtractor(Network(), InputSpec(8), name="toy"))
    assert "toy" in text
    assert "size=(8, 8)" in text
