"""From what stands beside a checkpoint to the network that it belongs to.

The table below is the one place where a model gets its name in files. Names are looked up in it, nothing is imported by
name: a file chooses among these models and can name nothing else.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from ganblocks.errors import CheckpointError
from ganblocks.models import progan
from ganblocks.models.config import ModelConfig

__all__ = ["GENERATORS", "generator_from_metadata"]

GENERATORS: dict[str, tuple[type[ModelConfig], Callable[[Any], nn.Module]]] = {
    "progan": (progan.ProGANConfig, progan.Generator),
}

BEFORE_NAMES = "progan"  # the only model when checkpoints did not name theirs yet


def generator_from_metadata(metadata: Mapping[str, Any]) -> nn.Module:
    """Build the generator that a checkpoint or an exported file describes, with fresh weights.

    Args:
        metadata: ``"model"``, a name of `GENERATORS` (without it: ``"progan"``), and ``"config"``, the fields of its
            configuration. Other keys do not matter.

    Returns:
        The generator, in training mode, on torch's default device. Under ``torch.device("meta")`` it takes no memory.

    Raises:
        CheckpointError: If there is no configuration, the model is unknown, or the two do not fit.
    """
    name, config = metadata.get("model", BEFORE_NAMES), metadata.get("config")
    known = ", ".join(sorted(GENERATORS))
    if not isinstance(name, str) or name not in GENERATORS:
        raise CheckpointError(f"the model is {name!r}, but this ganblocks knows: {known}")
    if not isinstance(config, Mapping):
        raise CheckpointError(
            f'nothing tells how the generator was built: the metadata need "model" (known: {known}) and "config", '
            f"but hold {sorted(map(str, metadata))}"
        )
    config_type, build = GENERATORS[name]
    try:
        return build(config_type.from_dict(config))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the configuration does not fit the model {name!r}: {error}") from error
