"""The three maps of a convolution as one matrix product each, for layers with far more weights than positions.

The deepest layer of a critic has millions of weights and 4x4 positions, or a single one. A convolution kernel spends
its time there on bringing weights into its own order; a product of matrices reads them once, as they are. On CPUs the
deepest layer of WGAN-GP takes half the time, the 4x4 layer of ProGAN's discriminator a third.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ganblocks.ops._geometry import Pair

__all__ = ["MatrixProduct", "pays"]

WEIGHTS = 2**22  # from here on the product pays, measured over widths, kernels and batches ...
WEIGHTS_OF_ONE = 2**19  # ... and from here on where the kernel covers the whole image
ROWS = 1024  # positions of all images together; above it the copies of overlapping patches cost more than they save
FEW_POSITIONS = 16  # in one image


def pays(count: int, image: Pair, result: Pair, kernel: Pair, weights: int) -> bool:
    """Whether the products are the faster form, of a convolution in float32 on a CPU.

    Args:
        count: Number of images.
        image: Height and width of an image.
        result: Height and width of its result.
        kernel: Height and width of the kernel.
        weights: Number of weights.
    """
    positions = result[0] * result[1]
    if min(*image, *result) < 1 or positions > FEW_POSITIONS or not 0 < count * positions <= ROWS:
        return False
    return weights >= (WEIGHTS_OF_ONE if image == kernel and positions == 1 else WEIGHTS)


@dataclass(frozen=True, slots=True)
class MatrixProduct:
    """The maps of one convolution, without groups and dilation.

    Weights and patches are lined up in the order in which the weights lie in memory: channel, row, column, or with
    ``channels_last`` row, column, channel.

    Attributes:
        kernel: Height and width.
        stride: Of the kernel over the image.
        padding: Rows and columns of zeros on every side of the image.
        channels_last: Layout of weights and results.
    """

    kernel: Pair
    stride: Pair
    padding: Pair
    channels_last: bool

    # Results are written where they shall lie: a view of something else could not be overwritten by what follows.

    def forward(self, image: Tensor, weight: Tensor, bias: Tensor | None, size: Pair) -> Tensor:
        """``conv(x, w) + b``, of this height and width."""
        patches, matrix = self._patches(image, size), self._matrix(weight)
        result = self._empty(image, (image.shape[0], weight.shape[0], *size))
        if self.channels_last:
            rows = result.permute(0, 2, 3, 1).view(-1, weight.shape[0])
            torch.mm(patches, matrix.t(), out=rows)
        else:
            N, C, H, W = result.shape
            result.copy_((patches @ matrix.t()).view(N, H, W, C).permute(0, 3, 1, 2))
        return result if bias is None else result.add_(bias.view(-1, 1, 1))

    def transposed(self, result: Tensor, weight: Tensor, bias: Tensor | None, size: Pair) -> Tensor:
        """``transposed(g, w) + b``, of this height and width."""
        N, _, H, W = result.shape
        C, (rows, columns), (down, right) = weight.shape[1], self.kernel, self.stride
        written = self._rows(result) @ self._matrix(weight)
        if self.channels_last:
            patches = written.view(N, H, W, rows, columns, C).permute(0, 5, 1, 2, 3, 4)
        else:
            patches = written.view(N, H, W, C, rows, columns).permute(0, 3, 1, 2, 4, 5)
        (top, left), (height, width) = self.padding, size
        # Large enough for every position of the kernel, and for rows and columns that none of them reaches.
        full = (max(height + 2 * top, (H - 1) * down + rows), max(width + 2 * left, (W - 1) * right + columns))
        image = self._empty(result, (N, C, *full)).zero_()
        for row in range(rows):
            for column in range(columns):
                target = image[
                    :, :, row : row + down * (H - 1) + 1 : down, column : column + right * (W - 1) + 1 : right
                ]
                target += patches[..., row, column]
        if full != size:
            image = self._empty(result, (N, C, *size)).copy_(image[:, :, top : top + height, left : left + width])
        return image if bias is None else image.add_(bias.view(-1, 1, 1))

    def correlate(self, image: Tensor, result: Tensor, shape: torch.Size) -> Tensor:
        """The gradient by a weight of this shape."""
        gradient = self._empty(image, tuple(shape))
        patches = self._patches(image, (result.shape[2], result.shape[3]))
        torch.mm(self._rows(result).t(), patches, out=self._matrix(gradient))
        return gradient

    def _empty(self, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)

    def _patches(self, image: Tensor, size: Pair) -> Tensor:
        """What the kernel sees at each position, one row each: [N * H' * W', C * kernel]."""
        (rows, columns), (top, left) = self.kernel, self.padding
        padded = F.pad(image, (left, left, top, top)) if top or left else image
        seen = padded.unfold(2, rows, self.stride[0]).unfold(3, columns, self.stride[1])[:, :, : size[0], : size[1]]
        seen = seen.permute(0, 2, 3, 4, 5, 1) if self.channels_last else seen.permute(0, 2, 3, 1, 4, 5)
        return seen.reshape(seen.shape[0] * size[0] * size[1], -1)

    def _matrix(self, weight: Tensor) -> Tensor:
        """The weights of each result channel in one row: [C', C * kernel]."""
        return (weight.permute(0, 2, 3, 1) if self.channels_last else weight).reshape(weight.shape[0], -1)

    def _rows(self, result: Tensor) -> Tensor:
        """[N, C', H', W'] as [N * H' * W', C']."""
        return result.permute(0, 2, 3, 1).reshape(-1, result.shape[1])
