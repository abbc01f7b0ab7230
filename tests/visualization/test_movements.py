"""Painters linked by what they share, and bars as long as what they count."""

import sys
from pathlib import Path

import numpy as np
import pytest
from drawn import assert_readable, rendered, written
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.patches import PathPatch, Rectangle

from ganblocks.visualization.canvas import COLORS, FAINT, INK
from ganblocks.visualization.movements import count_bars, draw_movements, movement_graph
from tolerances import named

networkx = pytest.importorskip("networkx")

PAINTERS = ["Klee", "Dali", "Titian", "Kandinskiy", "El Greco", "Pollock"]
MOVEMENTS = [
    ["Surrealism", "Expressionism", "Abstractionism"],
    ["Surrealism"],
    ("Mannerism",),
    {"Expressionism", "Abstractionism"},
    ["Mannerism"],
    [],
]


def test_an_edge_for_every_two_who_share_a_movement() -> None:
    graph = movement_graph(PAINTERS, MOVEMENTS)
    assert list(graph.nodes) == PAINTERS
    assert graph.nodes["Klee"]["movements"] == ("Abstractionism", "Expressionism", "Surrealism")
    assert {frozenset(edge): graph.edges[edge]["movements"] for edge in graph.edges} == {
        frozenset({"Klee", "Dali"}): ("Surrealism",),
        frozenset({"Klee", "Kandinskiy"}): ("Abstractionism", "Expressionism"),
        frozenset({"Titian", "El Greco"}): ("Mannerism",),
    }
    assert networkx.number_connected_components(graph) == 3


@given(st.lists(st.sets(st.sampled_from("abcd")), min_size=1, max_size=7))
def test_two_painters_are_linked_exactly_if_their_movements_meet(movements: list[set[str]]) -> None:
    graph = movement_graph(range(len(movements)), movements)  # type: ignore[arg-type]
    for i, first in enumerate(movements):
        for j, second in enumerate(movements):
            assert graph.has_edge(i, j) == (i != j and bool(first & second))


def curves(figure) -> dict[tuple[str, str], int]:
    """How many curves there are of each colour and line."""
    return {
        (patch.get_edgecolor()[:3], patch.get_linestyle()): len(patch.get_path().vertices) // 3
        for patch in figure.axes[0].patches
        if isinstance(patch, PathPatch)
    }


def test_the_picture_holds_every_name_every_link_and_its_legend() -> None:
    figure = draw_movements(PAINTERS, MOVEMENTS, title="Movements")
    texts = written(figure)
    assert set(PAINTERS) < set(texts)
    legend = [text for text in texts if text.endswith(")")]
    assert legend == ["Abstractionism (2)", "Expressionism (2)", "Mannerism (2)", "Surrealism (2)"]
    assert sorted(curves(figure).values()) == [1, 1, 1, 1]
    assert texts[0] == "Movements"
    assert_readable(figure)


def test_curves_begin_and_end_at_their_painters() -> None:
    figure = draw_movements(["a", "b", "c"], [["x"], ["y"], ["x"]])
    dots = {tuple(line.get_xydata()[0]) for line in figure.axes[0].lines if line.get_marker() == "o"}
    (patch,) = [patch for patch in figure.axes[0].patches if isinstance(patch, PathPatch)]
    ends = {tuple(vertex) for vertex in patch.get_path().vertices[[0, 2]]}
    assert len(dots) == 3
    assert ends < dots


def test_painters_of_one_movement_stand_together_and_those_alone_at_the_end() -> None:
    figure = draw_movements(["alone", "b1", "a1", "b2", "a2", "b3"], [["c"], ["B"], ["A"], ["B"], ["A"], ["B"]])
    names = [text for text in written(figure) if "(" not in text]
    assert names == ["b1", "b2", "b3", "a1", "a2", "alone"]
    assert [text for text in written(figure) if "(" in text] == ["B (3)", "A (2)"]
    assert sorted(curves(figure).values()) == [1, 3]


@pytest.mark.parametrize("count", [1, 2, 5, 13, 60])
def test_names_of_any_number_of_painters_can_be_read(count: int) -> None:
    painters = [f"Painter of the name {index} {'x' * (index % 17)}" for index in range(count)]
    assert_readable(draw_movements(painters, [[f"movement {index // 2}"] for index in range(count)], title="many"))


def test_more_movements_than_colours_take_another_line() -> None:
    painters = [f"p{index:02d}" for index in range(26)]
    found = curves(draw_movements(painters, [[f"m{index // 2:02d}"] for index in range(26)]))
    assert len(found) == 13
    assert len({color for color, _ in found}) == len(COLORS)


def test_names_are_not_read_as_mathematics() -> None:
    figure = draw_movements(["$x^2$", "b"], [["$m$"], ["$m$"]])
    assert {"$x^2$", "$m$ (2)"} < set(written(figure))
    rendered(figure)


@pytest.mark.parametrize(
    ("painters", "movements", "error", "told"),
    [
        ([], [], ValueError, "`painters`"),
        (["a", "a"], [[], []], ValueError, "different names"),
        (["a"], [[], []], ValueError, "`movements` is 'of 2 rows'"),
        (["a"], ["Cubism"], TypeError, "a collection of names"),
    ],
)
def test_a_graph_that_means_nothing_is_refused(painters, movements, error, told) -> None:
    with pytest.raises(error, match=told):
        movement_graph(painters, movements)


def test_missing_networkx_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "networkx", None)
    with pytest.raises(ImportError, match=r"ganblocks\[examples\]"):
        movement_graph(["a"], [[]])


# --- bars


def bars(figure, color: str) -> list[Rectangle]:
    rgb = tuple(int(color[k : k + 2], 16) / 255 for k in (1, 3, 5))
    found = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    return [bar for bar in found if np.allclose(bar.get_facecolor()[:3], rgb)]


def test_bars_are_as_long_as_their_counts_most_first_ties_by_name() -> None:
    figure = count_bars(["d", "b", "a", "c"], [10, 40, 10, 0], title="Counts")
    lengths = np.array([bar.get_width() for bar in bars(figure, COLORS[0])])
    np.testing.assert_allclose(lengths / lengths[0], [1, 0.25, 0.25, 0], **named("float64_eps"))
    tops = [bar.get_y() for bar in bars(figure, COLORS[0])]
    assert tops == sorted(tops)
    assert written(figure) == [
        "Counts", "b", "40  (66.7 %)", "a", "10  (16.7 %)", "d", "10  (16.7 %)", "c", "0  (0.0 %)",
    ]  # fmt: skip
    assert bars(figure, INK) == []
    assert_readable(figure)


def test_what_is_missing_is_marked_where_the_bar_should_end() -> None:
    figure = count_bars(["a", "b", "c"], [37, 50, 4], expected=[128, 50, None])
    assert "37 of 128  (40.7 %)" in written(figure)
    assert "50  (54.9 %)" in written(figure)
    (mark,) = bars(figure, INK)
    whole = bars(figure, FAINT)[0]
    middle, end = mark.get_x() + mark.get_width() / 2, whole.get_x() + whole.get_width()
    np.testing.assert_allclose(middle, end, **named("float64_eps"))  # 128
    width = bars(figure, COLORS[0])[1].get_width()
    np.testing.assert_allclose(width / whole.get_width(), 37 / 128, **named("float64_eps"))


@pytest.mark.parametrize("count", [1, 50])
def test_any_number_of_bars_can_be_read(count: int) -> None:
    assert_readable(count_bars([f"a long name {index}" * 3 for index in range(count)], list(range(count)), title="x"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"names": [], "counts": []}, "`names`"),
        ({"names": ["a"], "counts": [1, 2]}, "`counts`"),
        ({"names": ["a"], "counts": [-1]}, "`counts` is -1"),
        ({"names": ["a"], "counts": [1], "expected": []}, "`expected`"),
        ({"names": ["a"], "counts": [1], "expected": [-2]}, "`expected` is -2"),
        ({"names": ["a"], "counts": [1], "path": "a.jpg"}, "`path`"),
    ],
)
def test_bars_that_mean_nothing_are_refused(arguments, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        count_bars(**arguments)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_both_figures_are_written(tmp_path: Path, suffix: str) -> None:
    draw_movements(PAINTERS, MOVEMENTS, path=tmp_path / f"graph{suffix}")
    count_bars(["a"], [3], path=tmp_path / f"bars{suffix}")
    assert all((tmp_path / f"{name}{suffix}").stat().st_size > 1000 for name in ("graph", "bars"))
    with pytest.raises(ValueError, match="`path`"):
        draw_movements(PAINTERS, MOVEMENTS, path=tmp_path / "graph.gif")
