"""Freezing a backbone from the images up to a stage that is named."""

from typing import NamedTuple, Self

from torch import nn

from ganblocks._checks import require

__all__ = ["DocumentStage", "FreezableBackbone", "document_stage"]


class DocumentStage(NamedTuple):
    """Where a stage of InceptionResNetV2 ends.

    Attributes:
        last_index: Of its last layer in Keras's list, which counts from 0.
        keras_name: Of that layer, or of the block it ends.
        name: Of the stage here, as `freeze_through` takes it.
    """

    last_index: int
    keras_name: str
    name: str


_DOCUMENT_STAGES = (
    DocumentStage(274, "mixed_6a", "mixed_6a"),
    DocumentStage(594, "block17_20", "repeat_1"),
    DocumentStage(617, "mixed_7a", "mixed_7a"),
    DocumentStage(697, "block8_5", "repeat_2.4"),
    DocumentStage(777, "conv_7b", "conv2d_7b"),
)


def document_stage(layers: int) -> DocumentStage:
    """The stage of InceptionResNetV2 that is whole within the first ``layers`` of Keras's 780 layers (E19).

    The course text freezes the first 700 or 600 layers, which end within a block. Here whole stages are frozen:

    ======  ==========================================  ================  =============
    layers  what Keras freezes                          frozen through    Keras's name
    ======  ==========================================  ================  =============
    275     through ``mixed_6a``                        ``mixed_6a``      mixed_6a
    600     ... and five layers of ``mixed_7a``         ``repeat_1``      block17_20
    618     through ``mixed_7a``                        ``mixed_7a``      mixed_7a
    700     ... and two layers of ``block8_6``          ``repeat_2.4``    block8_5
    778     through ``conv_7b``                         ``conv2d_7b``     conv_7b
    ======  ==========================================  ================  =============

    Args:
        layers: 275 to 780.

    Raises:
        ValueError: Another number.
    """
    require(275 <= layers <= 780, "layers", layers, "275 to 780; of fewer layers, name a stage")
    return [stage for stage in _DOCUMENT_STAGES if stage.last_index < layers][-1]


class FreezableBackbone(nn.Module):
    """A network with a ``backbone`` of which the first part may stay as it is.

    Attributes:
        frozen_through: Name of the last stage that is frozen; ``None`` = nothing is.
    """

    backbone: nn.Module

    def __init__(self) -> None:
        super().__init__()
        self.frozen_through: str | None = None
        self._frozen: list[str] = []

    def stages(self) -> tuple[str, ...]:
        """Names that `freeze_through` takes, from the images on: all modules within the backbone."""
        return tuple(name for name, _ in self.backbone.named_modules() if name)

    def freeze_through(self, stage: str | None) -> Self:
        """Keep the backbone from its beginning up to the end of a stage as it is while the rest is trained.

        Its parameters take no gradient. It stays in evaluation mode whatever `train` says: the running statistics of
        batch normalisation do not move and are what it normalises by. `state_dict` does not tell of it.

        Args:
            stage: One of `stages`; ``None`` = all is trained again. What was frozen before is forgotten.

        Returns:
            This model.

        Raises:
            ValueError: If the backbone has no such stage.
        """
        self.backbone.requires_grad_(True)
        self.frozen_through, self._frozen = stage, []
        if stage is not None:
            names = [name for name, _ in self.backbone.named_modules()]
            if stage not in names[1:]:
                self.frozen_through = None
                top = ", ".join(name for name in names[1:] if name.count(".") < 2 and not name.split(".")[-1].isdigit())
                require(False, "stage", stage, f"a module of the backbone, such as one of {top}")
            end = max(place for place, name in enumerate(names) if name == stage or name.startswith(f"{stage}."))
            through = set(names[1 : end + 1])
            for name in names[1 : end + 1]:
                module = self.backbone.get_submodule(name)
                for parameter in module.parameters(recurse=False):
                    parameter.requires_grad_(False)
                inside = (f"{name}.{below}" for below, _ in module.named_modules() if below)
                if through.issuperset(inside):  # the stage's own parents hold more than it
                    self._frozen.append(name)
        return self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all parts but of frozen ones.

        Args:
            mode: ``True`` = training, ``False`` = evaluation.

        Returns:
            This model.
        """
        super().train(mode)
        for name in self._frozen:
            self.backbone.get_submodule(name).eval()
        return self
