"""Figures of a run on its page: all of them as far as there is room, their names as text, nothing from elsewhere."""

import base64
import re

import pytest
from PIL import Image

from ganblocks.visualization import report_figures
from ganblocks.visualization.report import write_report
from ganblocks.visualization.report_figures import figures_section


@pytest.fixture
def root(tmp_path):
    run = tmp_path.resolve() / "run"
    (run / "figures").mkdir(parents=True)
    return run


def draw(path, value=90, size=(12, 8)):
    Image.new("L", size, value).save(path, format="PNG")


def captions(section):
    return re.findall(r"<figcaption>(.*?)</figcaption>", section)


def test_every_figure_stands_there_whole_under_its_name(root):
    for value, name in enumerate(("latent_after_training", "confusion")):
        draw(root / "figures" / f"{name}.png", value, (10 + value, 5))
    section = figures_section(root)
    assert captions(section) == ["confusion", "latent after training"]
    embedded = [base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]*)"', section)]
    assert embedded == [
        (root / "figures" / name).read_bytes() for name in ("confusion.png", "latent_after_training.png")
    ]
    assert re.findall(r'width="(\d+)" height="(\d+)" alt="([^"]*)"', section) == [
        ("11", "5", "confusion"),
        ("10", "5", "latent after training"),
    ]
    assert "shown" not in section


def test_names_are_only_text(root):
    draw(root / "figures" / "<img src=x onerror=alert(1)> \"quoted\" & 'single' $x.png")
    section = figures_section(root)
    assert len(re.findall("<img", section)) == 1
    (caption,) = captions(section)
    assert caption == "&lt;img src=x onerror=alert(1)&gt; &quot;quoted&quot; &amp; &#x27;single&#x27; $x"
    assert f'alt="{caption}"' in section
    (root / "figures").joinpath(b"\xff.png".decode("utf-8", "surrogateescape")).write_bytes(
        next((root / "figures").iterdir()).read_bytes()
    )
    assert figures_section(root).encode("utf-8").count("\ufffd".encode()) == 2


def test_without_figures_there_is_no_section(root):
    assert figures_section(root) == ""
    assert figures_section(root / "missing") == ""


def test_number_and_bytes_are_bounded_and_the_page_says_so(root, monkeypatch):
    for number in range(45):
        draw(root / "figures" / f"{number}.png")
    assert captions(figures_section(root)) == [str(number) for number in range(40)]
    assert "40 of 45 figures are shown." in figures_section(root)
    size = (root / "figures" / "0.png").stat().st_size
    monkeypatch.setattr(report_figures, "_MOST_FIGURE_BYTES", 3 * size + 2)
    assert captions(figures_section(root)) == ["0", "1", "2"]
    draw(root / "figures" / "0.png", size=(900, 900))
    assert captions(figures_section(root))[0] == "1"


def test_what_leads_out_of_the_run_is_passed_over(root):
    draw(root.parent / "secret.png", 201)
    (root / "figures" / "linked.png").symlink_to(root.parent / "secret.png")
    section = figures_section(root)
    assert "Passed over: 1" in section
    assert "<img" not in section


def test_the_section_stands_on_the_page_and_the_policy_admits_it(root):
    draw(root / "figures" / "confusion.png")
    (root / "config.json").write_text("{}")
    text = write_report(root).read_text(encoding="utf-8")
    assert text.index("<h2>Curves</h2>") < text.index("<h2>Figures</h2>") < text.index("<h2>Configuration</h2>")
    assert 'class="picture"' in text
    assert "img-src data:;" in text
