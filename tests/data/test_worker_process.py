"""The part of loading that runs in a worker process."""

import pickle

import pytest
from worker_items import PathError, TwoArgumentsError

from ganblocks.data.worker_process import Result, portable, unchanged
from ganblocks.errors import DataError, ImageDecodeError


def test_an_error_that_can_travel_stays_as_it_is() -> None:
    error = ImageDecodeError("broken.png")
    assert portable(error) is error


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (PathError(path="a.png"), DataError, "PathError: a.png is odd"),
        (TwoArgumentsError("one", "two"), Exception, "TwoArgumentsError: one and two"),
        (type("MadeError", (KeyError,), {})("x"), KeyError, "MadeError: 'x'"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), UnicodeDecodeError, "bad"),
    ],
)
def test_any_other_becomes_the_nearest_kind_that_can(error: Exception, kind: type[Exception], text: str) -> None:
    sent = portable(error)
    arrived = pickle.loads(pickle.dumps(sent))
    assert type(sent) is type(arrived) is kind
    assert text in str(arrived)


def test_results_are_handed_on() -> None:
    result = Result(3)
    assert unchanged(result) is result
