"""What a saved model says of itself to people: a page of Markdown beside its weights.

What a network is, takes and gives stands in its docstrings; what it was trained on, how good it is and who may use it
is known to the one who saves it alone (Mitchell et al. 2019, "Model cards for model reporting", arXiv:1810.03993).
Where that is missing, the card says so.
"""

import dataclasses
import inspect
import json
import re
import sys
from collections.abc import Mapping
from typing import Any, Self

from torch import nn

from ganblocks._checks import require
from ganblocks.models.latent_generator import LatentGenerator

__all__ = ["ModelCard"]

NOT_STATED = "Not stated."


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """What only the one who trained a model knows of it. Of a section of ``None`` the card says that it is not stated.

    All but the title may have many lines, and may be Markdown.

    Attributes:
        title: Headline, one line; ``None`` = the model's name.
        summary: What this model is for, in a few sentences; ``None`` leaves the paragraph out.
        data: What it was trained on: where it comes from, how many images, how they were prepared.
        evaluation: How good it is: which numbers, on which images, by which extractor.
        limits: What it cannot do or should not be used for.
        licence: Of the weights. An identifier alone, such as ``apache-2.0``, also stands in the head of the card, where
            model hubs look for it.
    """

    title: str | None = None
    summary: str | None = None
    data: str | None = None
    evaluation: str | None = None
    limits: str | None = None
    licence: str | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            text = getattr(self, field.name)
            if text is not None and not isinstance(text, str):
                raise TypeError(f"`{field.name}` is a {type(text).__name__}, but must be text or None")
        require(self.title is None or len(self.title.splitlines()) == 1, "title", self.title, "one line")

    @classmethod
    def of(cls, card: "Self | Mapping[str, Any] | None") -> Self:
        """The card that is given as one, as its fields, or not at all.

        Raises:
            TypeError: If it is none of these, or a field is no text.
            ValueError: If a name is no field.
        """
        if isinstance(card, cls):
            return card
        if card is not None and not isinstance(card, Mapping):
            raise TypeError(f"`card` is a {type(card).__name__}, but must be a ModelCard, its fields, or None")
        values = dict(card or {})
        names = [field.name for field in dataclasses.fields(cls)]
        unknown = [name for name in values if name not in names]
        require(not unknown, "card", unknown, f"fields of {cls.__name__}: {', '.join(names)}")
        return cls(**values)

    def render(self, model: nn.Module, description: Mapping[str, Any], folder: str) -> str:
        """The page.

        Args:
            model: The model.
            description: What stands in its ``config.json``; see `ganblocks.models.sharing`.
            folder: Name of the directory it is saved in.

        Returns:
            Markdown, with the few lines of YAML in front that model hubs read.
        """
        name, kind = description["model"], type(model)
        head = ["---", "library_name: ganblocks"]
        if self.licence and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", self.licence):
            head.append(f"license: {json.dumps(self.licence.lower())}")
        head += ["tags:", "- pytorch", f"- {name.replace('_', '-')}", "---"]
        weights, metadata = description["weights"], description["metadata"]
        call = f"`{kind.__module__}.{kind.__name__}`, named `{name}` in files"
        versions = f"Saved by ganblocks {description['ganblocks']} with torch {description['torch']}."
        counts = f"{description['parameters']:,} parameters, {description['dtype']}"
        file = f"`{weights['file']}` has {weights['size']:,} bytes, SHA-256 `{weights['sha256']}`"
        sections = [
            ("What it is", "\n\n".join(text for text in (*_about(kind), f"{call}. {versions}") if text)),
            ("What goes in and comes out", _shape(kind)),
            ("How to load it", _fenced("python", _example(model, folder)) + "\n\nIt comes in evaluation mode."),
            ("Configuration", f"`{type(model.config).__name__}`:\n\n{_json(description['config'])}"),
            ("Parameters", f"{counts}. {file}."),
            ("Data", self.data),
            ("Evaluation", self.evaluation),
            ("Limits", self.limits),
            ("Licence", self.licence),
            *([("Further information", _json(metadata))] if metadata else []),
        ]
        parts = ["\n".join(head), f"# {self.title or name}", *([self.summary.strip()] if self.summary else [])]
        parts += [f"## {title}\n\n{(text or '').strip() or NOT_STATED}" for title, text in sections]
        return "\n\n".join(parts) + "\n"


def _about(kind: type[nn.Module]) -> tuple[str, str]:
    """The first paragraph of the module, which names the paper, and what the class says in front of its sections."""
    module = inspect.cleandoc(sys.modules[kind.__module__].__doc__ or "")
    own = re.split(r"^(?:Args|Attributes|Shape|Raises):$", inspect.cleandoc(kind.__doc__ or ""), flags=re.MULTILINE)
    return module.split("\n\n")[0], own[0].strip()


def _shape(kind: type[nn.Module]) -> str:
    """The section of that name in the docstring."""
    found = re.search(r"^Shape:\n((?:    .*\n?)+)", inspect.cleandoc(kind.__doc__ or ""), flags=re.MULTILINE)
    return inspect.cleandoc("\n" + found[1]) if found else ""


def _example(model: nn.Module, folder: str) -> str:
    """Three lines that load the model and use it."""
    first, *others = inspect.signature(model.forward).parameters
    told = bool(getattr(model.config, "num_classes", 0)) and "labels" in others
    if not hasattr(model, "sample"):
        last = f"outputs = model({first}, labels)" if told else f"outputs = model({first})"
    elif isinstance(model, LatentGenerator) or not told:
        last = "images = model.sample(16, seed=0)"
    else:
        last = "images = model.sample(16, labels, seed=0)  # class indices [16]"
    load = f"model = from_pretrained({json.dumps(folder, ensure_ascii=False)})"
    return f"from ganblocks.models.sharing import from_pretrained\n\n{load}\n{last}"


def _json(values: Mapping[str, Any]) -> str:
    return _fenced("json", json.dumps(values, indent=2, sort_keys=True))


def _fenced(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"
