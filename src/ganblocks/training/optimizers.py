"""RMSprop as Keras computes it, for experiments whose numbers come from there."""

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from ganblocks._checks import require

__all__ = ["KerasRMSprop"]


class KerasRMSprop(Optimizer):
    """RMSprop (Hinton, Coursera lecture 6e, 2012) in the form and with the defaults of Keras.

    For a gradient g, with v and m beginning at zero::

        v = rho * v + (1 - rho) * g**2
        m = momentum * m + lr * g / sqrt(v + eps)
        w = w - m

    ``torch.optim.RMSprop`` divides by ``sqrt(v) + eps`` instead, has other defaults (``alpha`` 0.99 for rho, eps 1e-8,
    lr 1e-2), and keeps the learning rate out of m, so that a new one acts on all earlier steps too.

    Args:
        params: Parameters, or groups of them as dictionaries, as for every optimizer of torch.
        lr: Learning rate, 0 or above.
        rho: How much of the mean square is kept, 0 to below 1.
        momentum: How much of the last step is kept, 0 to below 1.
        eps: Against division by zero, 0 or above.
        eps_inside_sqrt: False divides by ``sqrt(v) + eps``, which at a constant learning rate is torch's form.

    Raises:
        ValueError: A value out of range.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        *,
        rho: float = 0.9,
        momentum: float = 0.0,
        eps: float = 1e-7,
        eps_inside_sqrt: bool = True,
    ) -> None:
        defaults = {"lr": lr, "rho": rho, "momentum": momentum, "eps": eps, "eps_inside_sqrt": eps_inside_sqrt}
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with values of their own, as for every optimizer of torch.

        Raises:
            ValueError: A value out of range.
        """
        group = {**self.defaults, **param_group}
        for name in ("lr", "eps"):
            require(group[name] >= 0, name, group[name], "0 or above")
        for name in ("rho", "momentum"):
            require(0 <= group[name] < 1, name, group[name], "from 0 to below 1")
        super().add_param_group(param_group)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Change every parameter that has a gradient.

        Args:
            closure: Called first, with gradients enabled, to compute loss and gradients anew; None = they are there.

        Returns:
            What ``closure`` returned.

        Raises:
            RuntimeError: A gradient is sparse or complex.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._change(parameter, parameter.grad, group)
        return loss

    def _change(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        if gradient.is_sparse or gradient.is_complex():
            raise RuntimeError("KerasRMSprop does not take sparse or complex gradients")
        state = self.state[parameter]
        if "square_average" not in state:
            state["square_average"] = torch.zeros_like(parameter)
        square_average = state["square_average"].mul_(group["rho"]).addcmul_(gradient, gradient, value=1 - group["rho"])
        if group["eps_inside_sqrt"]:
            divisor = square_average.add(group["eps"]).sqrt_()
        else:
            divisor = square_average.sqrt().add_(group["eps"])
        change = gradient.mul(group["lr"]).div_(divisor)
        if group["momentum"] > 0:
            if "last_change" not in state:
                state["last_change"] = torch.zeros_like(parameter)
            change = state["last_change"].mul_(group["momentum"]).add_(change)
        parameter.sub_(change)
