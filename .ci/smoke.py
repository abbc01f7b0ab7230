"""What an installed ganblocks must do at the very least: ``python -I smoke.py alone core``, or the name of an extra.

Run in an environment into which nothing but the wheel was installed, or the wheel with that extra. ``alone`` demands
that no extra is there, so that nothing can lean on one unseen. Writes into the current folder.
"""

import importlib
import importlib.util
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import ganblocks
from ganblocks.data import MultiResolutionImages, ProgressiveBatches
from ganblocks.data.synthetic import Faces
from ganblocks.layers import WSConv2d
from ganblocks.models.progan import Discriminator, Generator, ProGANConfig
from ganblocks.models.sharing import from_hub, from_pretrained, save_pretrained
from ganblocks.training import Trainer, recipes

__all__ = ["BRINGS", "CHECKS", "main"]

BRINGS = {  # extra -> the modules that it adds itself
    "train": ("tensorboard", "matplotlib"),
    "vision": ("torchvision", "timm"),
    "metrics": ("sklearn", "torch_fidelity"),
    "examples": ("skimage", "networkx", "pooch"),
    "hub": ("huggingface_hub",),
    "export": ("onnx", "onnxscript"),
}


def alone() -> None:
    """Nothing is there that only an extra brings, and what needs one says how to get it."""
    extras = {module for modules in BRINGS.values() for module in modules} - {"networkx"}  # which PyTorch brings
    found = sorted(module for module in extras if importlib.util.find_spec(module))
    _demand(not found, f"core dependencies alone bring {', '.join(found)}")
    try:
        train()
    except ImportError as error:
        _demand('pip install "ganblocks[train]"' in str(error), f"a missing extra says only: {error}")
    else:
        raise SystemExit("smoke: figures are drawn without matplotlib")


def core() -> None:
    """A layer, a few steps of training, the checkpoint, a saved model: that of the environment and no other."""
    _demand(Path(ganblocks.__file__).is_relative_to(sys.prefix), f"ganblocks is that of {ganblocks.__file__}")
    images = torch.randn(2, 3, 8, 8, requires_grad=True)
    (slope,) = torch.autograd.grad(WSConv2d(3, 4, 3, padding=1)(images).square().sum(), images)
    _demand(bool(slope.abs().sum() > 0), "a layer passes no gradient on")

    average = _trained("run")
    again = _trained("run")  # goes on from the checkpoint, which is of the end
    _demand(_equal(average, again), "a finished run that is started again has other weights")

    save_pretrained(average, "model")
    loaded = from_pretrained("model")
    _demand(_equal(average, loaded), "a saved model comes back with other weights")
    latents = torch.randn(2, 4)
    _demand(torch.equal(average(latents), loaded(latents)), "a saved model generates other images")


def _trained(folder: str) -> Generator:
    torch.manual_seed(0)
    config = ProGANConfig.karras2018(8, latent_dim=4, base_channels=16, max_channels=4)
    recipe = recipes.karras2018(batch_sizes={4: 4, 8: 4})
    step = recipe.build_step(Generator(config), Discriminator(config), latent_dim=config.latent_dim)
    schedule = recipe.schedule(8, stage_images=[16, 16])
    data = ProgressiveBatches(MultiResolutionImages(Faces(16), resolution=8))
    ended = Trainer(step, data, schedule, run_dir=folder).fit()
    _demand(ended.finished and ended.images_seen == 32, f"the run ended with {ended}")
    _demand(any(Path(folder).rglob("*.safetensors")), "the run left no checkpoint")
    average = None if step.ema is None else step.ema.module
    if not isinstance(average, Generator):
        raise SystemExit(f"smoke: the average is a {type(average).__name__}")
    return average.eval()


def train() -> None:
    """A curve in a file, and TensorBoard's writer."""
    from ganblocks.training.callbacks import TensorBoard
    from ganblocks.visualization import save_curves

    save_curves([{"images_seen": 1000 * i, "loss": 1 / (1 + i)} for i in range(3)], "curves.png")
    _demand(Path("curves.png").stat().st_size > 1000, "an empty picture")
    TensorBoard()


def vision() -> None:
    """A network of torchvision, and one of timm."""
    from ganblocks.models.backbones import PooledClassifier, PooledClassifierConfig

    densenet = PooledClassifier(PooledClassifierConfig("densenet121", 2)).eval()
    _demand(densenet(torch.zeros(1, 3, 32, 32)).shape == (1, 2), "another shape")
    inception = PooledClassifier(PooledClassifierConfig("inception_resnet_v2", 2)).eval()
    _demand(inception(torch.zeros(1, 3, 75, 75)).shape == (1, 2), "another shape")


def metrics() -> None:
    """Scikit-learn's digits and report; torch-fidelity is found, and asks for weights."""
    from ganblocks.data import built_in_digits
    from ganblocks.metrics import classification_report, inception_extractor

    _demand(len(built_in_digits()) == 1797, "not the 1797 digits")
    labels = torch.tensor([0, 1, 1, 0])
    _demand("accuracy" in str(classification_report(labels, labels)).lower(), "a report without accuracy")
    importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    try:
        inception_extractor()
    except ValueError as error:
        _demand("never downloaded" in str(error), f"without weights it says: {error}")


def examples() -> None:
    """The built-in faces, a graph, and what fetches files."""
    from ganblocks.data import built_in_faces
    from ganblocks.visualization import movement_graph

    _demand(len(built_in_faces()) == 100, "not the 100 faces")
    _demand(len(movement_graph(["A", "B"], [["x"], ["x"]]).edges) == 1, "no edge between two painters of a movement")
    importlib.import_module("pooch")


def hub() -> None:
    """The client is found; offline it fails as a checkpoint that is missing does."""
    from ganblocks.errors import CheckpointError

    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        from_hub("nobody/nothing", revision="main", sha256="0" * 64, cache_dir="hub")
    except CheckpointError:
        return
    raise SystemExit("smoke: a model came from nowhere")


def export() -> None:
    """A generator becomes a program in ONNX that the checker accepts."""
    onnx = importlib.import_module("onnx")
    config = ProGANConfig.karras2018(8, latent_dim=4, base_channels=16, max_channels=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        program = torch.onnx.export(
            Generator(config).eval(), (torch.randn(1, 4),), dynamo=True, optimize=False, verbose=False
        )
    _demand(program is not None, "nothing was exported")
    onnx.checker.check_model(program.model_proto)  # type: ignore[union-attr]


CHECKS: dict[str, Callable[[], None]] = {
    "alone": alone,
    "core": core,
    "train": train,
    "vision": vision,
    "metrics": metrics,
    "examples": examples,
    "hub": hub,
    "export": export,
}


def _equal(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    one, two = first.state_dict(), second.state_dict()
    same: Callable[[Tensor, Tensor], bool] = torch.equal
    return one.keys() == two.keys() and all(same(one[name], two[name]) for name in one)


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise SystemExit(f"smoke: {otherwise}")


def main(names: list[str]) -> int:
    """Run the checks of these names."""
    os.environ.setdefault("MPLBACKEND", "Agg")
    torch.set_num_threads(1)
    for name in names:
        CHECKS[name]()
    print(f"smoke: {' '.join(names)}: passed, ganblocks {ganblocks.__version__}, torch {torch.__version__}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
