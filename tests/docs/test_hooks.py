"""Links of the guide to the API, and the checks of the built site: plain functions, tested without a build."""

import re
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
HEADER = b"# Sphinx inventory version 2\n# Project: p\n# Version: 1\n# The rest is compressed using zlib.\n"
LINES = """ganblocks.layers py:module 0 layers.html#module-$ -
ganblocks.layers.WSConv2d py:class 1 layers.html#$ -
ganblocks.layers.weight_scale.WSConv2d py:class -1 layers.html#ganblocks.layers.WSConv2d ganblocks.layers.WSConv2d
genindex std:label -1 genindex.html A title of several words
"""
INVENTORY = {
    "ganblocks.layers": "layers.html#module-ganblocks.layers",
    "ganblocks.layers.WSConv2d": "layers.html#ganblocks.layers.WSConv2d",
    "ganblocks.layers.weight_scale.WSConv2d": "layers.html#ganblocks.layers.WSConv2d",
}


@pytest.fixture
def hooks(docs_program: Callable[[str], ModuleType]) -> ModuleType:
    return docs_program("hooks")


@pytest.fixture
def build(docs_program: Callable[[str], ModuleType]) -> ModuleType:
    return docs_program("build")


@pytest.fixture
def pages(docs_program: Callable[[str], ModuleType]) -> ModuleType:
    return docs_program("package_pages")


def test_an_inventory_gives_the_python_names_with_their_addresses(hooks: ModuleType) -> None:
    assert hooks.read_inventory(HEADER + zlib.compress(LINES.encode())) == INVENTORY


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a Sphinx inventory"),
        (b"# Sphinx inventory version 1\n\n\n\n", "not a Sphinx inventory"),
        (HEADER[:40], "not a Sphinx inventory"),
        (HEADER + b"no zlib", "damaged"),
        (HEADER + zlib.compress(b"\xff"), "damaged"),
        (HEADER + zlib.compress(b"a line of something else\n"), "not a line"),
    ],
)
def test_another_file_is_refused_as_an_inventory(hooks: ModuleType, data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hooks.read_inventory(data)


@pytest.mark.parametrize(
    ("page_url", "name", "address"),
    [
        ("index.html", "ganblocks.layers.WSConv2d", "api/layers.html#ganblocks.layers.WSConv2d"),
        ("", "ganblocks.layers", "api/layers.html#module-ganblocks.layers"),
        ("guide/gans.html", "ganblocks.layers.WSConv2d", "../api/layers.html#ganblocks.layers.WSConv2d"),
        ("guide/gans/", "ganblocks.layers.weight_scale.WSConv2d", "../../api/layers.html#ganblocks.layers.WSConv2d"),
        ("guide/gans.html", "", "../api/index.html"),
    ],
)
def test_a_link_leads_from_its_page_to_the_name(hooks: ModuleType, page_url: str, name: str, address: str) -> None:
    page = f'<p><a class="x" href="api:{name}">text</a></p>'
    assert hooks.resolve_links(page, INVENTORY, page_url) == (f'<p><a class="x" href="{address}">text</a></p>', [])


def test_unknown_names_are_told_in_order_and_their_links_left_alone(hooks: ModuleType) -> None:
    page = '<a href="api:ganblocks.b">b</a> <a href="api:ganblocks.layers">l</a> <a href="api:ganblocks.a">a</a>'
    resolved, unknown = hooks.resolve_links(page, INVENTORY, "index.html")
    assert unknown == ["ganblocks.b", "ganblocks.a"]
    assert resolved.count("api:") == 2


def test_code_and_other_links_are_not_touched(hooks: ModuleType) -> None:
    page = '<code>[x](api:ganblocks.none)</code> <a href="gans.html">g</a> <a href="https://example.org/api:x">e</a>'
    assert hooks.resolve_links(page, INVENTORY, "index.html") == (page, [])


@pytest.mark.parametrize(
    ("page_path", "link", "on_the_site"),
    [
        ("guide/a.md", "../../benchmarks/results/b.md", "../benchmarks/results/b.md"),
        ("guide/a.md", "../../benchmarks/results/b.md#x", "../benchmarks/results/b.md#x"),
        ("index.md", "../benchmarks/results/b.md", "benchmarks/results/b.md"),
        ("guide/a.md", "../../benchmarks/unknown.md", "../../benchmarks/unknown.md"),
        ("guide/a.md", "../images/c.png", "../images/c.png"),
    ],
)
def test_a_link_out_of_the_guide_follows_its_page(
    hooks: ModuleType, page_path: str, link: str, on_the_site: str
) -> None:
    text = f"see [the figures]({link}), `../x`"
    expected = f"see [the figures]({on_the_site}), `../x`"
    assert hooks.outside_links(text, page_path, {"benchmarks/results/b.md"}) == expected


def test_every_public_name_has_one_home_and_keeps_its_other_paths(pages: ModuleType) -> None:
    offered = [f"{module.__name__}.{name}" for _, module, name, _ in pages.spots()]
    listed = [spot for entry in pages.entries() for spot in entry.spots]
    assert sorted(offered) == sorted(listed)
    assert all(entry.home in entry.spots for entry in pages.entries())
    homes = {spot: entry.home for entry in pages.entries() for spot in entry.spots}
    assert homes["ganblocks.layers.weight_scale.WSConv2d"] == "ganblocks.layers.WSConv2d"
    assert homes["ganblocks.layers.fade_in"] == "ganblocks.functional.fade_in"
    assert homes["ganblocks.models.progan_config.ProGANConfig"] == "ganblocks.models.progan.ProGANConfig"


def test_the_pages_show_every_home_once(pages: ModuleType) -> None:
    shown = [
        name
        for package in pages.PACKAGES
        for name in re.findall(r"^\.\. auto(?!module)\w+:: (\S+)$", pages.page(package), re.M)
    ]
    assert sorted(shown) == [entry.home for entry in pages.entries()]


def test_every_package_has_its_page(pages: ModuleType) -> None:
    files = {path.stem for path in (DOCS / "api").glob("*.rst")} - {"index"}
    assert files == set(pages.PACKAGES)
    for name in files:
        assert f".. package-page:: {name}\n" in (DOCS / "api" / f"{name}.rst").read_text("utf-8")
    packages = {path.parent.name for path in (ROOT / "src" / "ganblocks").glob("*/__init__.py")}
    assert packages <= files | {"cli"}


def test_links_to_nowhere_are_found(build: ModuleType) -> None:
    texts = {
        "index.html": '<a href="guide/a.html#there">1</a> <a href="guide/">2</a> <img src="images/p.png">',
        "guide/a.html": '<h1 id="there">a</h1> <a href="#there">3</a> <a href="../index.html">4</a><a href="#no">5</a>',
        "guide/index.html": '<a href="b.html">6</a> <a href="a.html#not">7</a> <a href="api:x">8</a>'
        '<a href="mailto:x">9</a>',
    }
    found = {path: build.read_page(text) for path, text in texts.items()}
    broken = build.broken_links(found, {*texts, "images/p.png"})
    assert broken == [
        "guide/a.html: #no",
        "guide/index.html: b.html",
        "guide/index.html: a.html#not",
        "guide/index.html: api:x",
    ]


def test_what_a_page_fetches_from_elsewhere_is_found(build: ModuleType) -> None:
    page = build.read_page(
        '<a href="https://example.org/paper">text</a> <link rel="canonical" href="https://example.org/">'
        '<script src="https://example.org/x.js"></script> <link rel="stylesheet" href="//example.org/x.css">'
        '<script src="own.js"></script>'
    )
    assert build.fetched_from_outside({"p.html": page}) == [
        "p.html: https://example.org/x.js",
        "p.html: //example.org/x.css",
    ]


def test_a_public_name_without_a_place_is_missing(build: ModuleType) -> None:
    assert build.missing_names(["ganblocks.layers.WSConv2d", "ganblocks.layers.New"], INVENTORY) == [
        "ganblocks.layers.New"
    ]


def test_examples_are_counted_where_docstrings_have_them(build: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text('"""A.\n\n>>> 1\n1\n"""\n\n\ndef f():\n    """F.\n\n    >>> 2\n    2\n    """\n')
    (tmp_path / "b.py").write_text('TEXT = ">>> 3"\n')
    assert build.count_examples(tmp_path) == 2


def test_the_home_page_shows_code_of_the_readme_which_is_tested() -> None:
    blocks = re.findall(r"^```python\n.*?^```", (DOCS / "index.md").read_text("utf-8"), re.M | re.S)
    readme = (ROOT / "README.md").read_text("utf-8")
    assert len(blocks) == 3
    assert [block for block in blocks if block not in readme] == []


def test_the_navigation_names_every_page_of_the_guide() -> None:
    navigation = (DOCS / "mkdocs.yml").read_text("utf-8")
    named = set(re.findall(r": (guide/\S+\.md)$", navigation, re.M))
    assert named == {path.relative_to(DOCS).as_posix() for path in (DOCS / "guide").glob("*.md")}
