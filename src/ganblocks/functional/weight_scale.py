"""The run-time weight constant of the equalised learning rate."""

import math

from ganblocks._checks import require

__all__ = ["weight_scale"]


def weight_scale(fan_in: int, *, gain: float = 2**0.5) -> float:
    """He's constant ``gain / sqrt(fan_in)``, which multiplies an N(0, 1) weight at every use.

    Karras et al. 2018, section 4.1 (the constant is He et al. 2015, equation 10). Because the scale stands outside
    the stored weight, an optimizer that normalises its steps, such as Adam, moves every layer at the same speed.

    Args:
        fan_in: Number of products summed into one output value, at least 1: ``in_channels / groups * k * k`` for a
            convolution, ``in_features`` for a dense layer.
        gain: Amplitude, not its square. ``sqrt(2)`` in front of a (leaky) ReLU, 1 in front of a linear output.

    Returns:
        The constant as a Python number.

    Raises:
        ValueError: If ``fan_in`` is below 1 or ``gain`` is not finite.
    """
    require(fan_in >= 1, "fan_in", fan_in, "at least 1")
    require(math.isfinite(gain), "gain", gain, "a finite number")
    return gain / math.sqrt(fan_in)
