"""Images from folders, zips, arrays and drawings, at every resolution, in an order that can be repeated."""

from ganblocks.data.array_images import ArrayImages, built_in_digits, built_in_faces
from ganblocks.data.batches import Batches, DatasetBatches, IterableBatches, ProgressiveBatches, as_batches
from ganblocks.data.idx import FASHION_MNIST_CLASSES, idx_images, read_idx
from ganblocks.data.image_folder import ImageFolder
from ganblocks.data.in_memory import TensorBatches, read_images
from ganblocks.data.multi_resolution import MultiResolutionImages
from ganblocks.data.sampler import ResumableSampler, split
from ganblocks.data.source import ImageSource
from ganblocks.data.synthetic import FaceFactors, Faces, ShapeFactors, Shapes

__all__ = [
    "FASHION_MNIST_CLASSES",
    "ArrayImages",
    "Batches",
    "DatasetBatches",
    "FaceFactors",
    "Faces",
    "ImageFolder",
    "ImageSource",
    "IterableBatches",
    "MultiResolutionImages",
    "ProgressiveBatches",
    "ResumableSampler",
    "ShapeFactors",
    "Shapes",
    "TensorBatches",
    "as_batches",
    "built_in_digits",
    "built_in_faces",
    "idx_images",
    "read_idx",
    "read_images",
    "split",
]
