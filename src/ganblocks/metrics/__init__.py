"""Distances between sets of images, and what else tells how good they are. The maths is ours.

Real first, generated second; lower is better where the name says distance. Every `Score` knows how it was made and
refuses to be compared with one that was made in another way.
"""

from ganblocks.metrics.arms import ArmComparison, ArmResult, compare_arms
from ganblocks.metrics.classification import Averages, ClassificationReport, classification_report
from ganblocks.metrics.evaluation import METRICS, Evaluation, evaluate
from ganblocks.metrics.extractors import (
    DEFAULT_LAYERS,
    classifier_extractor,
    inception_extractor,
    random_extractor,
    torchvision_extractor,
)
from ganblocks.metrics.features import Extracted, FeatureExtractor, Features
from ganblocks.metrics.frechet import (
    expected_bias,
    frechet_distance,
    frechet_distance_from_features,
    frechet_distance_from_moments,
)
from ganblocks.metrics.frechet_bias import estimated_bias
from ganblocks.metrics.inception_score import inception_score
from ganblocks.metrics.input_spec import InputSpec
from ganblocks.metrics.kid import kernel_distance, kernel_distance_u_statistic, squared_mmd
from ganblocks.metrics.likelihood import active_units, importance_weighted_bound
from ganblocks.metrics.ms_ssim import MS_SSIM_WEIGHTS, ms_ssim, ms_ssim_diversity, ssim
from ganblocks.metrics.nearest import memorisation, nearest_neighbors
from ganblocks.metrics.path_length import perceptual_path_length
from ganblocks.metrics.prdc import prdc
from ganblocks.metrics.proportions import McNemar, PairedDifference, mcnemar_test, paired_difference, wilson_interval
from ganblocks.metrics.resize import resize_images
from ganblocks.metrics.retrieval import most_similar, precision_at_k
from ganblocks.metrics.score import Score
from ganblocks.metrics.sharding import gather_rows
from ganblocks.metrics.statistics import RunningStatistics, Statistics
from ganblocks.metrics.swd import (
    laplacian_pyramid,
    patch_descriptors,
    progan_swd,
    reconstruct,
    sliced_wasserstein_distance,
)

__all__ = [
    "DEFAULT_LAYERS",
    "METRICS",
    "MS_SSIM_WEIGHTS",
    "ArmComparison",
    "ArmResult",
    "Averages",
    "ClassificationReport",
    "Evaluation",
    "Extracted",
    "FeatureExtractor",
    "Features",
    "InputSpec",
    "McNemar",
    "PairedDifference",
    "RunningStatistics",
    "Score",
    "Statistics",
    "active_units",
    "classification_report",
    "classifier_extractor",
    "compare_arms",
    "estimated_bias",
    "evaluate",
    "expected_bias",
    "frechet_distance",
    "frechet_distance_from_features",
    "frechet_distance_from_moments",
    "gather_rows",
    "importance_weighted_bound",
    "inception_extractor",
    "inception_score",
    "kernel_distance",
    "kernel_distance_u_statistic",
    "laplacian_pyramid",
    "mcnemar_test",
    "memorisation",
    "most_similar",
    "ms_ssim",
    "ms_ssim_diversity",
    "nearest_neighbors",
    "paired_difference",
    "patch_descriptors",
    "perceptual_path_length",
    "prdc",
    "precision_at_k",
    "progan_swd",
    "random_extractor",
    "reconstruct",
    "resize_images",
    "sliced_wasserstein_distance",
    "squared_mmd",
    "ssim",
    "torchvision_extractor",
    "wilson_interval",
]
