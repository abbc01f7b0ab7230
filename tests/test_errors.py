"""The errors form one tree that catches everything of ours and nothing else."""

import inspect

import pytest

from ganblocks import errors

PARENTS = {
    "CheckpointError": "GanblocksError",
    "CheckpointCorruptError": "CheckpointError",
    "RunMismatchError": "CheckpointError",
    "DataError": "GanblocksError",
    "ImageDecodeError": "DataError",
    "ImageTooLargeError": "DataError",
    "EmptyDatasetError": "DataError",
    "WorkerDiedError": "DataError",
    "NonFiniteError": "GanblocksError",
    "MetricError": "GanblocksError",
    "FingerprintMismatchError": "MetricError",
    "DistributedError": "GanblocksError",
    "SecurityError": "GanblocksError",
}


@pytest.mark.parametrize(("child", "parent"), PARENTS.items())
def test_each_error_has_its_place_in_the_tree(child: str, parent: str) -> None:
    assert getattr(errors, child).__bases__ == (getattr(errors, parent),)


def test_the_base_is_an_exception_and_nothing_more_special() -> None:
    """``except ValueError`` must not catch a damaged file, nor ``except OSError``."""
    assert errors.GanblocksError.__bases__ == (Exception,)


def test_the_public_names_are_the_tree() -> None:
    defined = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    assert set(errors.__all__) == defined == {"GanblocksError", *PARENTS, "SmallSampleWarning"}


def test_the_warning_is_outside_the_tree_and_can_be_silenced_with_all_of_its_kind() -> None:
    assert errors.SmallSampleWarning.__bases__ == (UserWarning,)
    assert errors.SmallSampleWarning.__doc__ != UserWarning.__doc__


@pytest.mark.parametrize("name", sorted({"GanblocksError", *PARENTS}))
def test_each_error_says_what_it_means_and_keeps_its_message(name: str) -> None:
    kind = getattr(errors, name)
    assert kind.__doc__
    assert kind.__doc__ != kind.__base__.__doc__
    with pytest.raises(errors.GanblocksError, match=r"^what happened$"):
        raise kind("what happened")
