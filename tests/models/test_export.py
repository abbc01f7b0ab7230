"""Every model goes through ``torch.export`` and ONNX, and what comes out computes the same, for any number of inputs.

Generators, decoders and classifiers as they are deployed, in evaluation mode; encoders and discriminators as well.

ONNX is written without the exporter's optimiser (``optimize=False``): that of onnxscript 0.7 takes an addend of 1e-8,
such as the one in `PixelNorm`, for nothing and leaves it out. That moves images in the fourth digit, and makes NaN of a
vector of zeros.
"""

import io
import warnings
from typing import Any

import pytest
import torch
from tiny_models import CASES, arguments, tiny_model
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.testing import assert_close

from tolerances import for_dtype, named

ONE_BATCH = "progan_discriminator"  # its minibatch statistics: N is part of what it computes
CALLS = [(case, method) for case in CASES for method in CASES[case].calls]
SLOW = ("backbone_classifier", "pooled_classifier")  # a hundred layers
MARKED = [pytest.param(*call, marks=[pytest.mark.slow] if call[0] in SLOW else []) for call in CALLS]
OTHER_COUNTS = (1, 5)


class Method(nn.Module):
    """One method of a model, as a module of its own."""

    def __init__(self, case: str, method: str) -> None:
        super().__init__()
        self.model, self.method = tiny_model(case), method

    def forward(self, first: Tensor, labels: Tensor | None = None) -> Tensor | tuple[Tensor, ...]:
        outputs: Any = getattr(self.model, self.method)(*([first] if labels is None else [first, labels]))
        return outputs if isinstance(outputs, Tensor) else tuple(outputs)


def dynamic_shapes(case: str, inputs: tuple[Tensor, ...]) -> Any:
    """The first dimension of all inputs is one number, and any."""
    return None if case == ONE_BATCH else tuple({0: Dim("N", min=1)} for _ in inputs)


def exported(case: str, method: str) -> tuple[nn.Module, ExportedProgram]:
    if case in SLOW:
        pytest.importorskip("torchvision")
    module, inputs = Method(case, method).eval(), arguments(case, method)
    return module, torch.export.export(module, inputs, dynamic_shapes=dynamic_shapes(case, inputs))


@torch.no_grad()
def assert_same_outputs(case: str, method: str, module: nn.Module, program: Any, tolerance: dict[str, float]) -> None:
    for count in (3,) if case == ONE_BATCH else (3, *OTHER_COUNTS):
        inputs = arguments(case, method, count)
        wanted, found = module(*inputs), program(*inputs)
        spread = wanted[0] if isinstance(wanted, tuple) else wanted
        assert spread.numel() == 1 or spread.flatten().std() > 0, "an output that is all alike would show nothing"
        assert_close(found, wanted, rtol=tolerance["rtol"], atol=tolerance["atol"])


@pytest.mark.parametrize(("case", "method"), MARKED)
def test_an_exported_model_computes_the_same(case: str, method: str) -> None:
    module, program = exported(case, method)
    assert_same_outputs(case, method, module, program.module(), for_dtype(torch.float32))


@pytest.mark.filterwarnings("ignore:The given buffer is not writable")  # torch 2.11's, of what it reads itself
@pytest.mark.parametrize("case", ["progan", "vae", "classifier"])
def test_an_exported_model_comes_back_from_its_file(case: str) -> None:
    method = next(iter(CASES[case].calls))
    module, program = exported(case, method)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    assert_same_outputs(case, method, module, torch.export.load(file).module(), for_dtype(torch.float32))


def test_a_batch_that_its_statistics_were_not_made_for_is_refused() -> None:
    _, program = exported(ONE_BATCH, "forward")
    with pytest.raises(AssertionError, match="Guard failed"):
        program.module()(*arguments(ONE_BATCH, "forward", 5))


class OnnxSession:
    """ONNX Runtime, called like the module."""

    def __init__(self, module: nn.Module, case: str, inputs: tuple[Tensor, ...]) -> None:
        runtime = pytest.importorskip("onnxruntime", reason="onnxruntime runs what is exported, and is no dependency")
        for package in ("onnx", "onnxscript"):
            pytest.importorskip(package, reason=f'{package} writes it: pip install "ganblocks[export]"')
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter, about itself
            program = torch.onnx.export(
                module, inputs, dynamo=True, dynamic_shapes=dynamic_shapes(case, inputs), optimize=False, verbose=False
            )
        assert program is not None
        content = program.model_proto.SerializeToString()
        self.session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
        self.names = [given.name for given in self.session.get_inputs()]

    def __call__(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        arrays = {name: tensor.numpy() for name, tensor in zip(self.names, inputs, strict=True)}
        outputs = tuple(torch.from_numpy(array) for array in self.session.run(None, arrays))
        return outputs if len(outputs) > 1 else outputs[0]


@pytest.mark.parametrize(("case", "method"), MARKED)
def test_a_model_in_onnx_computes_the_same(case: str, method: str) -> None:
    if case in SLOW:
        pytest.importorskip("torchvision")
    module = Method(case, method).eval()
    session = OnnxSession(module, case, arguments(case, method))
    assert_same_outputs(case, method, module, session, named("onnx_float32"))
