"""Images from folders, zips, arrays and drawings, at every resolution, in an order that can be repeated."""

from ganblocks.data.array_images import ArrayImages, built_in_digits, built_in_faces
from ganblocks.data.batches import Batches, DatasetBatches, IterableBatches, ProgressiveBatches, as_batches
from ganblocks.data.download import fetch
from ganblocks.data.idx import FASHION_MNIST_CLASSES, idx_images, read_idx
from ganblocks.data.image_folder import ImageFolder
from ganblocks.data.in_memory import TensorBatches, read_images
from ganblocks.data.multi_resolution import MultiResolutionImages
from ganblocks.data.report import BadFile, DatasetReport, check_images
from ganblocks.data.sampler import ResumableSampler, split
from ganblocks.data.source import ImageSource
from ganblocks.data.synthetic import FaceFactors, Faces, ShapeFactors, Shapes
from ganblocks.data.unreadable import LeftOut, OnError
from ganblocks.data.zip_members import ZipLimits

__all__ = [
    "FASHION_MNIST_CLASSES",
    "ArrayImages",
    "BadFile",
    "Batches",
    "DatasetBatches",
    "DatasetReport",
    "FaceFactors",
    "Faces",
    "ImageFolder",
    "ImageSource",
    "IterableBatches",
    "LeftOut",
    "MultiResolutionImages",
    "OnError",
    "ProgressiveBatches",
    "ResumableSampler",
    "ShapeFactors",
    "Shapes",
    "TensorBatches",
    "ZipLimits",
    "as_batches",
    "built_in_digits",
    "built_in_faces",
    "check_images",
    "fetch",
    "idx_images",
    "read_idx",
    "read_images",
    "split",
]
