"""What the classic adversarial experiments show: a line of losses, numbered pictures, reals beside fakes."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from ganblocks._checks import require
from ganblocks._files import written_atomically
from ganblocks.functional.image_range import to_uint8
from ganblocks.training.callbacks import Callback, passed, print_above_bar
from ganblocks.training.random_state import preserved_random_state
from ganblocks.visualization.grid import save_image_grid

if TYPE_CHECKING:
    from ganblocks.training.trainer import Trainer

__all__ = ["ConsoleLine", "NumberedImages", "RealBesideFake"]


_SHOWN = ("discriminator_loss", "generator_loss", "real_probability", "fake_probability", "fake_probability_after")


class ConsoleLine(Callback):
    """Logs the first batch of each epoch and every so many after it, and prints one line for it.

    ``[0/50][200/469] Loss_D: 0.7666 Loss_G: 1.0685 D(x): 0.6711 D(G(z)): 0.2956 / 0.3515``: epoch, batch within it,
    both losses, and the mean probability that the discriminator gives reals, fakes, and fakes after its own update.
    Needs ``AdversarialStep(log_probabilities=True)`` with one discriminator update for each of the generator.

    Args:
        epoch_images: Images in an epoch, at least 1.
        batch_size: Of a full batch; with a schedule of ``epoch_images`` the last of an epoch may be smaller.
        every: Batches between two lines of an epoch, at least 1.

    Raises:
        ValueError: If a number is below 1; at the first line, if the step does not return what is shown.
    """

    def __init__(self, epoch_images: int, batch_size: int, *, every: int = 100) -> None:
        for name, value in (("epoch_images", epoch_images), ("batch_size", batch_size), ("every", every)):
            require(value >= 1, name, value, "at least 1")
        self.epoch_images = epoch_images
        self.batch_size = batch_size
        self.every = every

    def on_step(self, trainer: "Trainer", previous: int) -> None:
        """Log and print if it is due."""
        epoch, within = divmod(previous, self.epoch_images)
        index = within // self.batch_size
        if index % self.every:
            return
        lacking = [name for name in _SHOWN if name not in trainer.values]
        wanted = "all there: AdversarialStep(log_probabilities=True), a generator update in each step"
        require(not lacking, "trainer.values", f"without {', '.join(lacking)}", wanted)
        trainer.record(trainer.values)
        values = {name: float(value) for name, value in trainer.values.items()}
        epochs = math.ceil(trainer.total_images / self.epoch_images)
        batches = math.ceil(self.epoch_images / self.batch_size)
        print_above_bar(
            f"[{epoch}/{epochs}][{index}/{batches}] "
            f"Loss_D: {values['discriminator_loss']:.4f} Loss_G: {values['generator_loss']:.4f} "
            f"D(x): {values['real_probability']:.4f} "
            f"D(G(z)): {values['fake_probability']:.4f} / {values['fake_probability_after']:.4f}"
        )


class NumberedImages(Callback):
    """Saves single pictures at the ends of epochs, as ``generated/epoch_<n>_image_<k>.png`` in the run directory.

    Both numbers count from 1. Each epoch has pictures of its own latents, which do not depend on when a run was
    interrupted.

    Args:
        generate: Maps the trainer and a seed to images ``[N, C, H, W]`` in [-1, 1].
        epochs: Of the whole run, at least 1; they are equal shares of its images.
        first_epoch: The first epoch, from 1, whose pictures are saved.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(self, generate: Callable[["Trainer", int], Tensor], *, epochs: int, first_epoch: int = 1) -> None:
        require(epochs >= 1, "epochs", epochs, "at least 1")
        require(1 <= first_epoch <= epochs, "first_epoch", first_epoch, f"from 1 to epochs, {epochs}")
        self.generate = generate
        self.epochs = epochs
        self.first_epoch = first_epoch

    def on_step(self, trainer: "Trainer", previous: int) -> None:
        """Save them if an epoch has ended."""
        if trainer.run_dir is None:
            return
        folder = trainer.run_dir / "generated"
        for epoch in range(self.first_epoch, self.epochs + 1):
            if not passed(trainer, previous, (epoch / self.epochs,)):
                continue
            folder.mkdir(exist_ok=True)
            with preserved_random_state():
                images = to_uint8(self.generate(trainer, epoch)).cpu()
            for number, image in enumerate(images, start=1):
                pixels = image.permute(1, 2, 0).numpy()  # [H, W, C]
                picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
                with written_atomically(folder / f"epoch_{epoch}_image_{number}.png") as temporary:
                    picture.save(temporary, format="PNG")


class RealBesideFake(Callback):
    """Saves ``real_beside_fake.png`` at the end of a run: as many real images on the left as generated on the right.

    Args:
        real: Images ``[N, C, H, W]``, uint8 or in [-1, 1].
        draw: Makes N images in [-1, 1] from the state of the run.
        columns: Images in a row of each half, N at most; images that do not fill a last row are left out.
        size: Side of one image on the sheet in pixels; smaller images are enlarged by whole factors.
    """

    def __init__(self, real: Tensor, draw: Callable[["Trainer"], Tensor], *, columns: int = 8, size: int = 64) -> None:
        require(columns >= 1, "columns", columns, "at least 1")
        self.real = real
        self.draw = draw
        self.columns = columns
        self.size = size

    def on_end(self, trainer: "Trainer", finished: bool) -> None:
        """Draw it, also where the run was stopped."""
        if trainer.run_dir is None:
            return
        with preserved_random_state():
            fake = to_uint8(self.draw(trainer)).cpu()
        real = self.real if self.real.dtype == torch.uint8 else to_uint8(self.real)
        columns = min(self.columns, len(real), len(fake))
        halves = (torch.split(half, max(1, columns)) for half in (real.cpu(), fake))
        rows = [torch.cat(pair) for pair in zip(*halves, strict=False) if len(pair[0]) == len(pair[1]) == columns]
        if rows:
            scale = max(1, self.size // fake.shape[-1])
            path = trainer.run_dir / "real_beside_fake.png"
            save_image_grid(torch.cat(rows), path, columns=2 * columns, scale=scale)
