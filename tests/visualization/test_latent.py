"""Codes in the plane, principal components, and the plane as the decoder sees it."""

import itertools
import sys

import numpy as np
import pytest
import scipy.stats
import torch
from drawn import assert_readable, rendered, written

from ganblocks.visualization.latent import decoder_grid, latent_scatter, pca_scatter
from tolerances import named


def drawn_points(figure):
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata())]
    return np.concatenate([np.stack(line.get_data(), axis=1) for line in lines])


def ordered(points):
    return points[np.lexsort(points.T)]


def test_codes_are_drawn_where_they_are(tmp_path):
    codes = torch.randn(50, 2, dtype=torch.bfloat16, requires_grad=True)
    figure = latent_scatter(codes, torch.arange(50) % 3, axis_names=("one", "$two$"), path=tmp_path / "codes.png")
    assert np.array_equal(ordered(drawn_points(figure)), ordered(codes.detach().double().numpy()))
    assert figure.axes[0].get_xlabel() == "one"
    assert figure.axes[0].get_ylabel() == "$two$"
    assert (tmp_path / "codes.png").read_bytes().startswith(b"\x89PNG")


def test_thousands_of_points_do_not_swell_an_svg(tmp_path):
    latent_scatter(torch.randn(5000, 2), path=tmp_path / "codes.svg")
    assert (tmp_path / "codes.svg").stat().st_size < 500_000


def test_components_are_those_of_a_singular_value_decomposition():
    data = torch.randn(60, 2, 3, 4, dtype=torch.float64) * torch.linspace(3, 0.1, 4, dtype=torch.float64)
    figure = pca_scatter(data)
    flat = data.flatten(1).numpy()
    centred = flat - flat.mean(0)
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    shown, expected = ordered(drawn_points(figure)), left[:, :2] * singular[:2]
    choices = [ordered(expected * signs) for signs in itertools.product((1, -1), repeat=2)]  # a sign is free
    assert any(np.allclose(shown, choice, **named("float64_eps")) for choice in choices)
    shares = 100 * singular**2 / (singular**2).sum()
    assert figure.axes[0].get_xlabel() == f"first component, {shares[0]:.1f} % of the variance"
    assert figure.axes[0].get_ylabel() == f"second component, {shares[1]:.1f} % of the variance"


def test_components_may_come_from_other_data():
    fit_data = torch.tensor([[-2.0, 0, 0], [2, 0, 0], [0, 1, 0], [0, -1, 0]])
    figure = pca_scatter(torch.tensor([[5.0, 7, 100], [1, 2, 3]]), fit_data=fit_data)
    assert sorted(map(tuple, abs(drawn_points(figure)).round(9))) == [(1, 2), (5, 7)]


def test_bytes_have_components_too():
    images = torch.randint(0, 256, (30, 1, 5, 5), dtype=torch.uint8)
    assert len(drawn_points(pca_scatter(images, torch.arange(30) % 4))) == 30


def test_a_missing_scikit_learn_names_the_command(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "sklearn"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    with pytest.raises(ImportError, match=r'pip install "ganblocks\[metrics\]"'):
        pca_scatter(torch.randn(5, 3))


class Decoder:
    """An image of 2 x 2 equal pixels whose red tells z1 and whose green tells z2."""

    def __init__(self):
        self.seen = []

    def __call__(self, latents):
        assert not torch.is_grad_enabled()
        self.seen.append(latents)
        red, green = (torch.sigmoid(latents[:, k]) for k in (0, 1))
        colors = torch.stack([red, green, torch.zeros_like(red)], dim=1)
        return colors[:, :, None, None].expand(-1, -1, 2, 2)


def corner_pixels(figure, n):
    """[n, n, 3]: the pixel in the middle of each place of the grid, the top row first."""
    (image,) = figure.axes[0].images
    left, right, bottom, top = image.get_extent()
    shown = rendered(figure)
    offset = shown.shape[0] - round(figure.axes[0].get_ylim()[0])
    middles = (np.arange(n) + 0.5) / n
    rows = (top + offset + (bottom - top) * middles).astype(int)
    columns = (left + (right - left) * middles).astype(int)
    return shown[np.ix_(rows, columns)].astype(int)


def test_z1_grows_to_the_right_and_z2_upwards_by_quantiles():
    figure = decoder_grid(Decoder(), n=5, coverage=0.8, title="a grid")
    values = scipy.stats.norm.ppf(np.linspace(0.1, 0.9, 5))
    levels = np.rint(255 / (1 + np.exp(-values))).astype(int)
    shown = corner_pixels(figure, 5)
    assert np.array_equal(shown[..., 0], np.tile(levels, (5, 1)))
    assert np.array_equal(shown[..., 1], np.tile(levels[::-1, None], (1, 5)))
    texts = [f"{value:.2f}".replace("-", "\N{MINUS SIGN}") for value in values]
    assert written(figure) == ["a grid", *texts, *texts, "z1", "z2"]
    assert_readable(figure)


def test_a_rectangle_is_walked_in_even_steps():
    figure = decoder_grid(Decoder(), n=3, rectangle=((0.0, 2.0), (-3.0, 1.0)))
    shown = corner_pixels(figure, 3)
    across, up = (np.rint(255 / (1 + np.exp(-np.array(v)))).astype(int) for v in ([0, 1, 2], [1, -1, -3]))
    assert np.array_equal(shown[1, :, 0], across)
    assert np.array_equal(shown[:, 1, 1], up)
    minus = "\N{MINUS SIGN}"
    assert written(figure) == ["0.00", "1.00", "2.00", f"{minus}3.00", f"{minus}1.00", "1.00", "z1", "z2"]


def test_many_latents_are_decoded_in_parts():
    decoder = Decoder()
    figure = decoder_grid(decoder, n=20)
    assert [len(part) for part in decoder.seen] == [256, 144]
    assert all(part.dtype == torch.float32 and part.shape[1] == 2 for part in decoder.seen)
    assert len(np.unique(corner_pixels(figure, 20)[0, :, 0])) == 20


@pytest.mark.parametrize(
    ("n", "rectangle"),
    [
        (2, None),
        (15, None),
        (50, None),
        (15, ((-1e-4, 1e-4), (1e5, 1e6))),
        (2, ((-1e-3, 1.0),) * 2),
        (4, ((1.0, 1 + 1e-15),) * 2),
    ],
)
def test_all_numbers_can_be_read(n, rectangle):
    figure = decoder_grid(Decoder(), n=n, rectangle=rectangle)
    assert_readable(figure)
    assert "\N{MINUS SIGN}0.00" not in written(figure)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: latent_scatter(torch.randn(3, 3)), ValueError, "pca_scatter"),
        (lambda: latent_scatter(torch.randn(0, 2)), ValueError, "codes"),
        (lambda: latent_scatter(torch.tensor([[0.0, torch.inf]])), ValueError, "codes"),
        (lambda: latent_scatter(torch.randn(3, 2), torch.zeros(3)), TypeError, "labels"),
        (lambda: latent_scatter(torch.randn(3, 2), path="a.txt"), ValueError, "path"),
        (lambda: pca_scatter(torch.randn(1, 3)), ValueError, "data"),
        (lambda: pca_scatter(torch.randn(3, 1)), ValueError, "data"),
        (lambda: pca_scatter(torch.ones(3, 4)), ValueError, "variance"),
        (lambda: pca_scatter(torch.randn(3, 4), fit_data=torch.randn(5, 3)), ValueError, "fit_data"),
        (lambda: decoder_grid(Decoder(), n=1), ValueError, "n"),
        (lambda: decoder_grid(Decoder(), coverage=1.0), ValueError, "coverage"),
        (lambda: decoder_grid(Decoder(), rectangle=((1.0, 0.0), (0.0, 1.0))), ValueError, "rectangle"),
        (lambda: decoder_grid(Decoder(), rectangle=(0.0, 1.0)), ValueError, "rectangle"),
        (lambda: decoder_grid(lambda z: z[:5, :1, None, None]), ValueError, "decode"),
        (lambda: decoder_grid(lambda z: z), ValueError, "decode"),
    ],
)
def test_mistakes_are_named(call, error, match):
    with pytest.raises(error, match=match):
        call()
