"""``torch.autograd.Function`` without what its calls cost when nothing is transformed."""

from typing import Any

import torch

from ganblocks.ops._graph import is_transformed

__all__ = ["Function"]


class Function(torch.autograd.Function):
    """``torch.autograd.Function`` with ``setup_context``, as the transforms of ``torch.func`` want it, made fast.

    PyTorch inspects the signature of such a ``forward`` at every call, which takes several times as long as a small
    operation. The older form, in which ``forward`` gets the context, is spared that, but no transform takes it. So each
    subclass has a twin of the older form, made of the same methods, and is called through it where no transform is at
    work. Arguments are given by place, none left out.
    """

    _plain: type[torch.autograd.Function]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)

        def forward(ctx: Any, *arguments: Any) -> Any:
            output = cls.forward(*arguments)
            cls.setup_context(ctx, arguments, output)
            return output

        methods: dict[str, Any] = {"forward": forward, "backward": cls.backward, "jvp": cls.jvp}
        methods = {name: staticmethod(method) for name, method in methods.items()}
        cls._plain = type(cls.__name__, (torch.autograd.Function,), methods | {"__module__": cls.__module__})

    @classmethod
    def apply(cls, *arguments: Any) -> Any:
        """Call it; see ``torch.autograd.Function.apply``."""
        if is_transformed():
            return super().apply(*arguments)
        return cls._plain.apply(*arguments)
