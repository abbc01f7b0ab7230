"""A thin trainer: steps, schedules, recipes, callbacks and checkpoints."""

from ganblocks.training import (
    backbone_recipes,
    gan_recipes,
    information_recipes,
    painting_recipes,
    recipes,
    style_recipes,
)
from ganblocks.training.adversarial_step import AdversarialStep
from ganblocks.training.augmentation import AdaptiveAugmentation
from ganblocks.training.autoencoder_step import AutoencoderStep, evaluate_autoencoder
from ganblocks.training.callbacks import Callback, Measurements, ProgressBar, SampleSheets, Summary, TensorBoard
from ganblocks.training.checkpoint import Checkpoint, CheckpointStore
from ganblocks.training.checkpoint_directory import read_newest_checkpoint
from ganblocks.training.classifier_answers import ClassifierAnswers, train_for_answers
from ganblocks.training.classifier_step import (
    ClassifierStep,
    balanced_class_weights,
    evaluate_classifier,
    predict_features,
    predict_logits,
)
from ganblocks.training.compiled_loss import compile_loss
from ganblocks.training.distributed import Replicas, current_replicas, joined_processes
from ganblocks.training.divergence import DivergenceWatch
from ganblocks.training.early_stopping import EarlyStopping
from ganblocks.training.ema import ExponentialMovingAverage
from ganblocks.training.graphed_step import GraphedStep
from ganblocks.training.guard import FiniteGuard
from ganblocks.training.information_step import InformationStep
from ganblocks.training.interrupt import GracefulStop
from ganblocks.training.logging import RunLog
from ganblocks.training.optimizers import KerasRMSprop
from ganblocks.training.pixel_optimization import StyleRecipe, StyleStep, Stylized, stylize
from ganblocks.training.plateau import ReduceOnPlateau
from ganblocks.training.precision import Precision
from ganblocks.training.pretraining import pretrain_stack
from ganblocks.training.progressive_step import ProgressiveStep
from ganblocks.training.randomness import StepContext
from ganblocks.training.reporting import Report
from ganblocks.training.run_directory import RunLock, new_run_directory
from ganblocks.training.schedule import ConstantSchedule, CosineSchedule, Phase, ProgressiveSchedule, Schedule
from ganblocks.training.scoring import NearestSheet, Scores
from ganblocks.training.steps import GuardedStep, Step, latent_sampler
from ganblocks.training.style_step import StyleDecoderStep, TransformStep
from ganblocks.training.trainer import FitResult, Trainer
from ganblocks.training.two_head_step import TwoHeadStep
from ganblocks.training.vae_step import VAEStep, evaluate_vae
from ganblocks.training.validation import Validation
from ganblocks.training.weights import load_weights, plain_weights

__all__ = [
    "AdaptiveAugmentation",
    "AdversarialStep",
    "AutoencoderStep",
    "Callback",
    "Checkpoint",
    "CheckpointStore",
    "ClassifierAnswers",
    "ClassifierStep",
    "ConstantSchedule",
    "CosineSchedule",
    "DivergenceWatch",
    "EarlyStopping",
    "ExponentialMovingAverage",
    "FiniteGuard",
    "FitResult",
    "GracefulStop",
    "GraphedStep",
    "GuardedStep",
    "InformationStep",
    "KerasRMSprop",
    "Measurements",
    "NearestSheet",
    "Phase",
    "Precision",
    "ProgressBar",
    "ProgressiveSchedule",
    "ProgressiveStep",
    "ReduceOnPlateau",
    "Replicas",
    "Report",
    "RunLock",
    "RunLog",
    "SampleSheets",
    "Schedule",
    "Scores",
    "Step",
    "StepContext",
    "StyleDecoderStep",
    "StyleRecipe",
    "StyleStep",
    "Stylized",
    "Summary",
    "TensorBoard",
    "Trainer",
    "TransformStep",
    "TwoHeadStep",
    "VAEStep",
    "Validation",
    "backbone_recipes",
    "balanced_class_weights",
    "compile_loss",
    "current_replicas",
    "evaluate_autoencoder",
    "evaluate_classifier",
    "evaluate_vae",
    "gan_recipes",
    "information_recipes",
    "joined_processes",
    "latent_sampler",
    "load_weights",
    "new_run_directory",
    "painting_recipes",
    "plain_weights",
    "predict_features",
    "predict_logits",
    "pretrain_stack",
    "read_newest_checkpoint",
    "recipes",
    "style_recipes",
    "stylize",
    "train_for_answers",
]
