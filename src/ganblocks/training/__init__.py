"""A thin trainer: steps, schedules, recipes, callbacks and checkpoints."""

from ganblocks.training import recipes
from ganblocks.training.callbacks import Callback, Measurements, ProgressBar, SampleSheets, Summary, TensorBoard
from ganblocks.training.checkpoint import Checkpoint, CheckpointStore
from ganblocks.training.ema import ExponentialMovingAverage
from ganblocks.training.interrupt import GracefulStop
from ganblocks.training.logging import RunLog
from ganblocks.training.precision import Precision
from ganblocks.training.randomness import StepContext
from ganblocks.training.schedule import ConstantSchedule, Phase, ProgressiveSchedule, Schedule
from ganblocks.training.steps import AdversarialStep, ProgressiveStep, Step, latent_sampler
from ganblocks.training.trainer import FitResult, Trainer, new_run_directory

__all__ = [
    "AdversarialStep",
    "Callback",
    "Checkpoint",
    "CheckpointStore",
    "ConstantSchedule",
    "ExponentialMovingAverage",
    "FitResult",
    "GracefulStop",
    "Measurements",
    "Phase",
    "Precision",
    "ProgressBar",
    "ProgressiveSchedule",
    "ProgressiveStep",
    "RunLog",
    "SampleSheets",
    "Schedule",
    "Step",
    "StepContext",
    "Summary",
    "TensorBoard",
    "Trainer",
    "latent_sampler",
    "new_run_directory",
    "recipes",
]
