"""Labels as rows of zeros and a one."""

import pytest
import torch

from ganblocks.models.labels import one_hot


def test_rows_have_a_one_where_the_label_says_in_the_dtype_of_what_they_join() -> None:
    rows = one_hot(torch.tensor([2, 0], dtype=torch.int32), 3, torch.zeros(2, 7, dtype=torch.bfloat16))
    assert rows is not None
    assert rows.dtype == torch.bfloat16
    assert rows.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert one_hot(torch.zeros(0, dtype=torch.int64), 3, torch.zeros(0, 7)).shape == (0, 3)


def test_labels_are_there_if_and_only_if_there_are_classes() -> None:
    assert one_hot(None, 0, torch.zeros(2, 7)) is None
    with pytest.raises(ValueError, match="`labels` is 'a tensor', but must be None: the configuration has no classes"):
        one_hot(torch.tensor([0, 1]), 0, torch.zeros(2, 7))
    with pytest.raises(ValueError, match=r"`labels` is None, but must be class indices \[N\] from 0 to 4"):
        one_hot(None, 5, torch.zeros(2, 7))


@pytest.mark.parametrize("shape", [(3,), (2, 1), ()])
def test_one_label_an_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"`labels` is .*, but must be \[2\], one an image"):
        one_hot(torch.zeros(shape, dtype=torch.int64), 5, torch.zeros(2, 7))
