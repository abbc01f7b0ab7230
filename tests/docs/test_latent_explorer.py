"""The latent explorer: which latent stands where, what a sprite shows of it, and a page that fits its pictures."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ganblocks.errors import CheckpointError
from ganblocks.models.vae import VAE
from ganblocks.models.vae_config import VAEConfig
from ganblocks.training import plain_weights
from ganblocks.training.saved_weights import write_weights
from tolerances import for_dtype

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "guide" / "latent_explorer.md"
WITHOUT_END = {"img", "br", "hr", "link", "meta", "input"}


@pytest.fixture
def explorer(docs_program: Callable[[str], ModuleType]) -> ModuleType:
    return docs_program("latent_explorer")


class Elements(HTMLParser):
    """All elements with their attributes; complains about an end that does not belong to the last beginning."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in WITHOUT_END:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def figures() -> dict[str, tuple[dict[str, str], dict[str, str]]]:
    """Of each kind the attributes of its figure and of the picture in it."""
    marked = re.findall(r"<!-- (\w+) -->\n(.*?)\n<!-- /\1 -->", PAGE.read_text("utf-8"), re.DOTALL)
    found = {}
    for kind, text in marked:
        (outer, figure), (inner, image) = Elements(text).found
        assert (outer, inner) == ("figure", "img")
        found[kind] = figure, image
    return found


# --- latents ---


def test_the_plane_has_its_first_latent_to_the_right_and_its_second_upwards(explorer: ModuleType) -> None:
    latents = explorer.plane_latents(3, 2.0).tolist()
    assert latents == [[-2, 2], [0, 2], [2, 2], [-2, 0], [0, 0], [2, 0], [-2, -2], [0, -2], [2, -2]]


def test_a_line_goes_from_station_to_station_and_back_to_the_first(explorer: ModuleType) -> None:
    stations = torch.tensor([[0.0, 0.0], [4.0, 0.0], [4.0, 8.0]])
    latents = explorer.walk_latents(stations, 4, "line").tolist()
    first = [[0, 0], [1, 0], [2, 0], [3, 0]]
    second = [[4, 0], [4, 2], [4, 4], [4, 6]]
    assert latents == [*first, *second, [4, 8], [3, 6], [2, 4], [1, 2]]


def test_an_arc_keeps_the_length_and_passes_the_stations(explorer: ModuleType) -> None:
    stations = torch.nn.functional.normalize(torch.randn(3, 5, dtype=torch.float64), dim=1) * 2
    latents = explorer.walk_latents(stations, 6)
    torch.testing.assert_close(latents[::6], stations, **for_dtype(torch.float64))
    torch.testing.assert_close(
        latents.norm(dim=1), torch.full((18,), 2.0, dtype=torch.float64), **for_dtype(torch.float64)
    )
    right_angle = explorer.walk_latents(torch.eye(2, dtype=torch.float64), 2)
    torch.testing.assert_close(
        right_angle[1], torch.full((2,), 0.5**0.5, dtype=torch.float64), **for_dtype(torch.float64)
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda it: it.plane_latents(1, 1.0), "side"),
        (lambda it: it.plane_latents(3, 0.0), "extent"),
        (lambda it: it.walk_latents(torch.zeros(1, 2), 3), "at least two"),
        (lambda it: it.walk_latents(torch.zeros(2, 2), 0), "frames"),
        (lambda it: it.walk_latents(torch.zeros(2, 2), 3, "curve"), "line or slerp"),
        (lambda it: it.sprite(torch.zeros(6, 1, 2, 2, dtype=torch.uint8), 4), "divisor of the 6"),
        (lambda it: it.sprite(torch.zeros(6, 2, 2, 2, dtype=torch.uint8), 3), "1 or 3"),
        (lambda it: it.render(lambda z: z[:, :, None, None] / 0, torch.ones(1, 1), (0, 1)), "finite"),
        (lambda it: it.replace_block("<!-- a -->\n\n<!-- /b -->", "a", "x"), "0 times"),
    ],
)
def test_what_cannot_be_drawn_is_told(explorer: ModuleType, call: Callable[[ModuleType], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(explorer)


# --- pictures ---


def linear(latents: Tensor) -> Tensor:
    """Images of 2 x 3 pixels whose left column is the first latent, the others the second."""
    first, second = latents[:, 0], latents[:, 1]
    return torch.stack([first, second, second], dim=1)[:, None, None].expand(-1, 1, 2, 3)


def test_tile_i_j_of_a_plane_shows_its_latent(explorer: ModuleType) -> None:
    side, extent = 17, 100.0
    images = explorer.render(linear, explorer.plane_latents(side, extent), (-127.5, 127.5))
    pixels = np.asarray(explorer.sprite(images, side))
    assert pixels.shape == (side * 2, side * 3)
    for row in range(side):
        for column in range(side):
            first = -extent + 2 * extent * column / (side - 1)
            second = extent - 2 * extent * row / (side - 1)
            tile = pixels[2 * row : 2 * row + 2, 3 * column : 3 * column + 3]
            assert tile.tolist() == [[round(first + 127.5), round(second + 127.5), round(second + 127.5)]] * 2


def test_values_beyond_the_range_are_cut_off(explorer: ModuleType) -> None:
    images = explorer.render(
        lambda z: z[:, :, None, None], torch.tensor([[-3.0], [-1.0], [0.0], [1.0], [3.0]]), (-1, 1)
    )
    assert images.flatten().tolist() == [0, 0, 128, 255, 255]


def test_colours_stay_with_their_pixels(explorer: ModuleType) -> None:
    images = torch.arange(4 * 3 * 2 * 2, dtype=torch.uint8).reshape(4, 3, 2, 2)
    picture = explorer.sprite(images, 2)
    assert (picture.mode, picture.size) == ("RGB", (4, 4))
    for tile, row, column in ((0, 0, 0), (1, 0, 1), (2, 1, 0), (3, 1, 1)):
        for y in range(2):
            for x in range(2):
                assert picture.getpixel((2 * column + x, 2 * row + y)) == tuple(images[tile, :, y, x].tolist())


# --- runs ---


def save_vae(run: Path, **settings: int) -> VAE:
    model = VAE(VAEConfig(resolution=4, hidden_dims=(3,), **settings))
    about = {"format": "pt", "model": "vae", "config": model.config.to_dict()}
    run.mkdir()
    write_weights(run / "vae.safetensors", plain_weights(model), about)
    return model.eval()


def new_page(folder: Path) -> Path:
    page = folder / "page.md"
    page.write_text("# A\n\n<!-- plane -->\n\n<!-- /plane -->\n\nb\n\n<!-- walk -->\nold\n<!-- /walk -->\n", "utf-8")
    return page


def test_a_run_becomes_a_sprite_and_a_figure_in_the_page(explorer: ModuleType, tmp_path: Path) -> None:
    model = save_vae(tmp_path / "run")
    page = new_page(tmp_path)
    arguments = ["--vae", str(tmp_path / "run"), "--side", "3", "--extent", "1.5"]
    assert explorer.main(arguments, images=tmp_path, page=page) == 0
    with torch.no_grad():
        expected = model.decode(explorer.plane_latents(3, 1.5)).reshape(3, 3, 4, 4)
    tiles = (expected * 255).round().permute(0, 2, 1, 3).reshape(12, 12)
    assert np.asarray(Image.open(tmp_path / "latent_plane.webp").convert("L")).tolist() == tiles.tolist()
    text = page.read_text("utf-8")
    assert text.startswith("# A\n\n<!-- plane -->\n<figure")
    assert 'data-columns="3" data-rows="3" data-tile="4" data-numbers="1.5"' in text
    assert text.endswith("<!-- /plane -->\n\nb\n\n<!-- walk -->\nold\n<!-- /walk -->\n")
    assert explorer.main(arguments, images=tmp_path, page=page) == 0
    assert page.read_text("utf-8") == text


def test_a_network_of_another_kind_is_refused(
    explorer: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_vae(tmp_path / "three", latent_dim=3)
    save_vae(tmp_path / "told", num_classes=2)
    for run in ("three", "told", "none"):
        with pytest.raises(CheckpointError):
            explorer.load_decoder(tmp_path / run)
    assert explorer.main(["--vae", str(tmp_path / "none")], images=tmp_path, page=new_page(tmp_path)) == 2
    assert "CheckpointError" in capsys.readouterr().err
    assert list(tmp_path.glob("*.webp")) == []


def test_a_command_without_a_run_says_so(explorer: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        explorer.main([])
    assert "nothing to draw" in capsys.readouterr().err


# --- the page ---


def test_the_page_shows_both_sprites_with_the_geometry_that_they_have() -> None:
    shown = figures()
    assert shown.keys() == {"plane", "walk"}
    for kind, (figure, image) in shown.items():
        assert figure["data-kind"] == kind
        columns, rows, tile = (int(figure[f"data-{name}"]) for name in ("columns", "rows", "tile"))
        with Image.open(PAGE.parent / image["src"]) as sprite:
            assert sprite.size == (columns * tile, rows * tile) == (int(image["width"]), int(image["height"]))
        assert (PAGE.parent / image["src"]).stat().st_size < 400_000
        numbers = figure["data-numbers"].split()
        assert len(numbers) == {"plane": 1, "walk": rows}[kind]
        assert all(float(number) == float(number) for number in numbers)
        assert kind == "walk" or columns == rows
        assert len(image["alt"]) > 50


def test_the_script_knows_every_figure_of_the_page_and_fetches_nothing() -> None:
    script = (DOCS / "javascripts" / "latent_explorer.js").read_text("utf-8")
    (kinds,) = re.findall(r"\{ (\w+(?:, \w+)*) \}\[kind\]", script)
    assert set(kinds.split(", ")) == figures().keys()
    assert not re.search(r"https?:|fetch\(|XMLHttpRequest|import\(|innerHTML", script)
    read = set(re.findall(r"const \{ (.*?) \} = figure\.dataset", script)[0].split(", "))
    assert {f"data-{name}" for name in read} <= figures()["plane"][0].keys()
    classes = set(re.findall(r'class: "([\w-]+)"', script)) | {"latent-explorer", "latent-active"}
    sheet = (DOCS / "stylesheets" / "latent_explorer.css").read_text("utf-8")
    assert [name for name in sorted(classes) if f".{name}" not in sheet] == []
