"""The rule for images that cannot be read: what may be left out, what never, and how it is told."""

import errno
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ganblocks.data import ArrayImages
from ganblocks.data.unreadable import ErrorPolicy, LeftOut, fingerprint_of, is_fault_of_the_machine
from ganblocks.errors import DataError, EmptyDatasetError, ImageDecodeError

SOURCE = ArrayImages(np.zeros((5, 4, 4), np.uint8))


def failing(error: BaseException, cause: BaseException | None = None) -> Any:
    def read() -> None:
        raise error from cause

    return read


def entries(count: int) -> list[LeftOut]:
    return [LeftOut(index, f"{index}.png", "ImageDecodeError", f"'{index}.png' is bad") for index in range(count)]


def test_what_can_be_read_passes_through() -> None:
    assert ErrorPolicy("raise", None).attempt(SOURCE, 0, lambda: 7) == 7
    assert ErrorPolicy("skip", None).attempt(SOURCE, 0, lambda: 7) == 7


def test_raise_raises_and_skip_says_what_was_left_out() -> None:
    error = ImageDecodeError("'b.png' is no image")
    with pytest.raises(ImageDecodeError) as caught:
        ErrorPolicy("raise", None).attempt(SOURCE, 3, failing(error))
    assert caught.value is error
    left_out = ErrorPolicy("skip", None).attempt(SOURCE, 3, failing(error))
    assert left_out == LeftOut(3, None, "ImageDecodeError", "'b.png' is no image")
    named = ArrayImages(np.zeros((2, 4, 4), np.uint8))
    named.names = ("a.png", "b.png")  # type: ignore[attr-defined]
    assert ErrorPolicy("skip", None).attempt(named, 1, failing(error)) == LeftOut(
        1, "b.png", "ImageDecodeError", "'b.png' is no image"
    )


@pytest.mark.parametrize(
    "cause",
    [MemoryError(), OSError(errno.EMFILE, "open files"), OSError(errno.ENFILE, ""), OSError(errno.ENOMEM, "")],
)
def test_a_fault_of_the_machine_is_never_blamed_on_the_image(cause: BaseException) -> None:
    error = DataError("could not be opened")
    with pytest.raises(DataError) as caught:
        ErrorPolicy("skip", None).attempt(SOURCE, 0, failing(error, cause))
    assert caught.value is error
    assert is_fault_of_the_machine(error)
    assert is_fault_of_the_machine(cause)


@pytest.mark.parametrize("cause", [None, FileNotFoundError(errno.ENOENT, ""), PermissionError(errno.EACCES, "")])
def test_a_fault_of_the_file_is(cause: BaseException | None) -> None:
    assert isinstance(ErrorPolicy("skip", None).attempt(SOURCE, 0, failing(DataError("gone"), cause)), LeftOut)


@pytest.mark.parametrize("error", [ValueError("wrong shape"), KeyboardInterrupt(), RuntimeError("a fault of ours")])
def test_only_data_errors_can_be_left_out(error: BaseException) -> None:
    with pytest.raises(type(error)):
        ErrorPolicy("skip", None).attempt(SOURCE, 0, failing(error))


def test_the_warning_has_the_number_and_the_first_names() -> None:
    with pytest.warns(UserWarning, match=r"^1 of 9 images .* left out: '0\.png' is bad$"):
        ErrorPolicy("skip", None).conclude(entries(1), 9)
    with pytest.warns(UserWarning, match=r"^5 of 9 .*'0\.png' is bad; '1\.png' is bad; '2\.png' is bad; and 2 more$"):
        ErrorPolicy("skip", None).conclude(entries(5), 9)


def test_nothing_left_out_is_nothing_said() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ErrorPolicy("skip", None).conclude([], 9)


def test_the_list_is_json_and_replaces_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "quarantine.json"
    policy = ErrorPolicy("quarantine", path)
    with pytest.warns(UserWarning, match=r"2 of 9 .*quarantine\.json"):
        policy.conclude(entries(2), 9)
    listed = json.loads(path.read_text())
    assert listed[1] == {"index": 1, "name": "1.png", "error": "ImageDecodeError", "reason": "'1.png' is bad"}
    assert [LeftOut.from_dict(entry) for entry in listed] == entries(2)
    policy.conclude([], 9)
    assert json.loads(path.read_text()) == []


def test_all_left_out_is_an_empty_data_set_and_the_list_is_there(tmp_path: Path) -> None:
    with pytest.raises(EmptyDatasetError, match=r"none of the 4 images could be read: '0\.png' is bad; '1\.png'"):
        ErrorPolicy("quarantine", tmp_path / "list.json").conclude(entries(4), 4)
    assert len(json.loads((tmp_path / "list.json").read_text())) == 4


def test_a_list_that_cannot_be_written_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"list of unreadable images .*list\.json' cannot be written"):
        ErrorPolicy("quarantine", tmp_path / "file" / "list.json").conclude(entries(1), 4)


@pytest.mark.parametrize(
    ("on_error", "quarantine", "message"),
    [
        ("ignore", None, "`on_error` is 'ignore', but must be one of raise, skip, quarantine"),
        ("quarantine", None, "`quarantine` is None, but must be the file to write"),
        ("skip", "list.json", "`quarantine` is 'list.json', but must be None"),
        ("raise", "list.json", "`quarantine` is 'list.json', but must be None"),
    ],
)
def test_wrong_arguments_are_named(on_error: Any, quarantine: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ErrorPolicy(on_error, quarantine)


@pytest.mark.parametrize(
    "values",
    [
        None,
        {},
        {"index": 1, "name": "a", "error": "b"},
        {"index": True, "name": "a", "error": "b", "reason": "c"},
        {"index": 1.0, "name": "a", "error": "b", "reason": "c"},
        {"index": 1, "name": 2, "error": "b", "reason": "c"},
        {"index": 1, "name": "a", "error": None, "reason": "c"},
        {"index": 1, "name": "a", "error": "b", "reason": "c", "more": 1},
    ],
)
def test_a_malformed_entry_is_refused(values: Any) -> None:
    with pytest.raises(ValueError, match="must hold index, name, error, reason"):
        LeftOut.from_dict(values)


def test_the_fingerprint_is_a_function_of_what_was_chosen() -> None:
    other = ArrayImages(np.ones((5, 4, 4), np.uint8))
    choices = [(SOURCE, [0, 1]), (SOURCE, [0, 2]), (SOURCE, [1, 0]), (SOURCE, []), (other, [0, 1])]
    assert len({fingerprint_of(source, indices) for source, indices in choices}) == len(choices)
    same = ArrayImages(np.zeros((5, 4, 4), np.uint8))
    assert fingerprint_of(same, np.array([0, 1])) == fingerprint_of(SOURCE, [0, 1])  # type: ignore[arg-type]


def test_a_source_that_can_tell_is_asked() -> None:
    told = ArrayImages(np.zeros((5, 4, 4), np.uint8))
    told.fingerprint_of = lambda indices: f"of {indices}"  # type: ignore[attr-defined]
    assert fingerprint_of(told, [3, 4]) == "of [3, 4]"
