"""Images from folders, zips, arrays and drawings, at every resolution, in an order that can be repeated."""

from ganblocks.data.array_images import ArrayImages, built_in_digits, built_in_faces
from ganblocks.data.augmented_images import AugmentedImages, classical_augmentation
from ganblocks.data.batches import Batches, DatasetBatches, IterableBatches, ProgressiveBatches, as_batches
from ganblocks.data.download import fetch
from ganblocks.data.drawn_scans import drawn_scans
from ganblocks.data.duplicates import (
    cosine_hash,
    difference_hash,
    exact_duplicates,
    group_numbers,
    groups_across,
    hash_distances,
    near_duplicates,
)
from ganblocks.data.idx import FASHION_MNIST_CLASSES, idx_images, read_idx
from ganblocks.data.image_folder import ImageFolder
from ganblocks.data.image_table import ImageTable
from ganblocks.data.in_memory import TensorBatches, read_images
from ganblocks.data.multi_resolution import MultiResolutionImages
from ganblocks.data.painting_augmentation import PaintingPolicy, painting_augmentation
from ganblocks.data.paintings import (
    Artist,
    PainterCount,
    Paintings,
    painter_key,
    read_artists,
    write_label_table,
)
from ganblocks.data.pictures import read_picture, write_picture
from ganblocks.data.prefetch import PrefetchedBatches
from ganblocks.data.provenance import Provenance, read_generated, write_generated
from ganblocks.data.report import BadFile, DatasetReport, check_images
from ganblocks.data.sampler import ResumableSampler, split
from ganblocks.data.source import ImageSource
from ganblocks.data.stratified import balanced_rows, cross_validation_folds, stratified_split
from ganblocks.data.synthetic import FaceFactors, Faces, ShapeFactors, Shapes
from ganblocks.data.unreadable import LeftOut, OnError
from ganblocks.data.zip_members import ZipLimits

__all__ = [
    "FASHION_MNIST_CLASSES",
    "ArrayImages",
    "Artist",
    "AugmentedImages",
    "BadFile",
    "Batches",
    "DatasetBatches",
    "DatasetReport",
    "FaceFactors",
    "Faces",
    "ImageFolder",
    "ImageSource",
    "ImageTable",
    "IterableBatches",
    "LeftOut",
    "MultiResolutionImages",
    "OnError",
    "PainterCount",
    "PaintingPolicy",
    "Paintings",
    "PrefetchedBatches",
    "ProgressiveBatches",
    "Provenance",
    "ResumableSampler",
    "ShapeFactors",
    "Shapes",
    "TensorBatches",
    "ZipLimits",
    "as_batches",
    "balanced_rows",
    "built_in_digits",
    "built_in_faces",
    "check_images",
    "classical_augmentation",
    "cosine_hash",
    "cross_validation_folds",
    "difference_hash",
    "drawn_scans",
    "exact_duplicates",
    "fetch",
    "group_numbers",
    "groups_across",
    "hash_distances",
    "idx_images",
    "near_duplicates",
    "painter_key",
    "painting_augmentation",
    "read_artists",
    "read_generated",
    "read_idx",
    "read_images",
    "read_picture",
    "split",
    "stratified_split",
    "write_generated",
    "write_label_table",
    "write_picture",
]
