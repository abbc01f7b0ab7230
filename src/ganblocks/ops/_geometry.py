"""How the kernel of a convolution meets the image."""

from dataclasses import dataclass, replace

__all__ = ["Geometry", "Pair"]

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Geometry:
    """How the kernel meets the image, and in which direction; not a tuple, which torch.func would take apart."""

    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    transposed: bool = False
    output_padding: Pair = (0, 0)
    kernel: Pair = (1, 1)
    channels_last: bool = False

    def of(self, rows: int, columns: int, channels_last: bool) -> "Geometry":
        """The same for a kernel of this size and tensors in this order; made for every call, so without `replace`."""
        return Geometry(
            self.stride, self.padding, self.dilation, self.groups, self.transposed, self.output_padding,
            (rows, columns), channels_last,
        )  # fmt: skip

    def forwards(self) -> "Geometry":
        """The convolution, from image to result."""
        return replace(self, transposed=False, output_padding=(0, 0))

    def backwards(self, image: tuple[int, ...], result: tuple[int, ...]) -> "Geometry":
        """The transposed convolution, from result to image, of these shapes.

        Rows and columns at the end of the image that no position of the kernel reaches come back as output padding.
        """
        opposite = replace(self, transposed=True, output_padding=(0, 0))
        height, width = opposite.size((result[2], result[3]))
        return replace(opposite, output_padding=(image[2] - height, image[3] - width))

    def size(self, given: Pair) -> Pair:
        """Height and width of what comes out, from those of what goes in."""
        sizes = []
        for axis in range(2):
            stride, margin, reach = (
                self.stride[axis],
                2 * self.padding[axis],
                self.dilation[axis] * (self.kernel[axis] - 1),
            )
            if self.transposed:
                sizes.append((given[axis] - 1) * stride - margin + reach + self.output_padding[axis] + 1)
            else:
                sizes.append((given[axis] + margin - reach - 1) // stride + 1)
        return sizes[0], sizes[1]
