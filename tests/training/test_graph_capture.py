"""What records and replays; the graph itself needs a GPU."""

import pytest
import torch
from fake_capture import FakeCapture
from torch import Tensor

from ganblocks.training.graph_capture import Capture, CudaCapture, first_error


def test_the_first_error_of_a_chain_is_the_one_that_is_named() -> None:
    def fail() -> None:
        try:
            raise RuntimeError("  \noperation not permitted when stream is capturing.\nmore")
        finally:
            raise RuntimeError("ending the capture failed")

    with pytest.raises(RuntimeError) as caught:
        fail()
    assert first_error(caught.value) == "RuntimeError: operation not permitted when stream is capturing"
    assert first_error(KeyError()) == "KeyError"
    outer = ValueError("outer")
    outer.__context__ = KeyError("handled on the way")
    assert first_error(outer) == "ValueError: outer"


def test_the_stand_in_obeys_the_rules_of_a_graph() -> None:
    x, capture = torch.ones(3), FakeCapture(torch.device("cpu"))
    protocol: Capture = capture
    outputs = protocol.record(lambda: {"sum": x.sum()})
    x.fill_(2)
    protocol.replay()
    assert float(outputs["sum"]) == 6
    for forbidden in (
        lambda: {"x": x * x.sum().item()},
        lambda: {"x": torch.rand(3)},
        lambda: {"x": torch.tensor(1.0)},
    ):
        with pytest.raises(RuntimeError, match="operation not permitted when stream is capturing"):
            FakeCapture(torch.device("cpu")).record(forbidden)
    FakeCapture.made.clear()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_graph_does_its_work_on_what_the_tensors_hold_now() -> None:
    x = torch.ones(3, device="cuda", requires_grad=True)
    total = torch.zeros((), device="cuda")

    def function() -> dict[str, Tensor]:
        (first,) = torch.autograd.grad(x.pow(3).sum(), x, create_graph=True)  # 3 x^2
        (second,) = torch.autograd.grad(first.sum(), x)  # 6 x
        total.add_(second.sum())
        return {"second": second.sum()}

    capture = CudaCapture(torch.device("cuda"))
    for _ in range(3):
        capture.warm_up(function)
    total.zero_()
    outputs = capture.record(function)
    assert float(total) == 0  # nothing was done
    with torch.no_grad():
        x.fill_(2)
    capture.replay()
    capture.replay()
    assert float(outputs["second"]) == 36
    assert float(total) == 72
    capture.release()
