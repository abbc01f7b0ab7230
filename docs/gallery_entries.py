"""What the gallery shows of each example, beside what the example says of itself: see :mod:`gallery`."""

from dataclasses import dataclass

__all__ = ["DRAWN", "ENTRIES", "SECTIONS", "Entry"]

DRAWN = "drawn/"  # stands in trials for a folder of drawn faces, which gallery_runs.py makes
SECTIONS = ("Adversarial networks", "Autoencoders", "Classifiers", "Paintings", "Style transfer")


@dataclass(frozen=True)
class Entry:
    """One example.

    Attributes:
        stem: Its file without ``.py``.
        section: One of `SECTIONS`.
        title: Heading in the gallery.
        alt: What the picture shows, for those who do not see it.
        guide: The page about it, from docs/, with an anchor where there is one; empty = none.
        trial: Arguments of a run of seconds or few minutes that needs no data set. Its time is measured.
        figures: Files in the run directory of the trial that become the picture, side by side; of a pattern the last.
        top: Share of their height that is shown.
        picture: A picture in docs/images that was made otherwise; empty = that of the trial.
        caption: How such a picture was made, in Markdown.
    """

    stem: str
    section: str
    title: str
    alt: str
    guide: str = ""
    trial: str = "--smoke"
    figures: tuple[str, ...] = ()
    top: float = 1.0
    picture: str = ""
    caption: str = ""

    @property
    def image(self) -> str:
        """Name of its picture in docs/images."""
        return self.picture or f"gallery_{self.stem}.png"


ENTRIES = (
    Entry(
        "progan_celeba",
        "Adversarial networks",
        "Faces that grow",
        "Rows of small cartoon faces that a generator made",
        "guide/gans.md",
        "--drawn 400 --resolution 16 --images-per-stage 800",
        picture="drawn_faces.png",
        caption="From `--drawn 8000`, at the end of the stage of 16 px.",
    ),
    Entry(
        "dcgan_mnist",
        "Adversarial networks",
        "Digits by a DCGAN",
        "Rows of generated digits of 8 pixels",
        "guide/gans.md",
        "--dataset digits",
        ("samples/*.png",),
    ),
    Entry(
        "wgan_gp_brain_mri",
        "Adversarial networks",
        "A critic instead of a judge",
        "Losses of critic and generator and the gradient penalty over a run, for two recipes",
        "guide/gans.md#two-recipes-on-the-same-scans",
        picture="wgan_gp_two_recipes.png",
        caption="From `--label yes --resolution 64 --batch-size 8 --generator-steps 120`, with and without "
        "`--preset document`: curves, no scan.",
    ),
    Entry(
        "conditional_gan_mnist",
        "Adversarial networks",
        "The digit that it is told",
        "Ten rows of generated digits, a row for each of 0 to 9",
        "guide/gans.md#labels",
        picture="conditional_digits.png",
        caption="From `--data mnist/ --epochs 8`: generated, no picture of MNIST.",
    ),
    Entry(
        "infogan_mnist",
        "Adversarial networks",
        "Categories that nobody told it",
        "Ten rows of generated digits of 8 pixels, a row for each category that the network has found",
        "guide/gans.md#codes-that-can-be-read-off-the-image",
        "--dataset digits",
        ("samples/*.png",),
    ),
    Entry(
        "r3gan_mnist",
        "Adversarial networks",
        "A modern baseline",
        "Rows of generated digits of 8 pixels",
        "guide/gans.md",
        "--dataset digits --labels --epochs 25",
        ("samples/*.png",),
    ),
    Entry(
        "progan_paintings",
        "Adversarial networks",
        "Few pictures, augmented",
        "Rows of small generated pictures: coloured blots on grey, on the way to shapes",
        "guide/gans.md#few-images",
        "--resolution 16 --max-channels 32 --images-per-stage 2000 4000 8000",
        ("samples/*.png",),
    ),
    Entry(
        "autoencoder_fashion_mnist",
        "Autoencoders",
        "A picture as a few numbers",
        "Ten drawn faces above what an autoencoder makes of them, with the error of each",
        "guide/autoencoders.md",
        f"--data {DRAWN} --resolution 32 --epochs 40",
        ("figures/reconstruction.png",),
    ),
    Entry(
        "denoising_autoencoder_fashion_mnist",
        "Autoencoders",
        "Noise removed",
        "Ten drawn faces, the same with noise, and what a network makes of the latter",
        "guide/autoencoders.md#what-the-others-reach",
        f"--data {DRAWN} --resolution 32 --epochs 20",
        ("figures/denoising.png",),
    ),
    Entry(
        "vae_fashion_mnist",
        "Autoencoders",
        "Clothes as points of a plane",
        "A square of generated clothes that change into one another: boots, bags, shirts, trousers, sandals",
        "guide/latent_explorer.md",
        "--epochs 20",
        picture="latent_plane.webp",
        caption="From `--data fashion_mnist/ --epochs 60`: generated, no picture of Fashion-MNIST.",
    ),
    Entry(
        "stacked_autoencoder_mnist",
        "Autoencoders",
        "Layers that were trained before",
        "Loss and accuracy of a stacked classifier over a run",
        "guide/autoencoders.md#stacks",
        "",
        ("classifier/curves.png",),
    ),
    Entry(
        "classifier_mnist",
        "Classifiers",
        "Whose features others compare by",
        "Loss and accuracy of a classifier over a run",
        "guide/metrics.md#where-features-come-from",
        "",
        ("curves.png",),
    ),
    Entry(
        "augmented_classifier_mnist",
        "Classifiers",
        "Where generated images help",
        "Accuracy of four arms over the number of real images, with intervals",
        "guide/generated_images.md#digits-and-how-many-real-ones-there-are",
        picture="curve_digits.png",
        caption="From `--data mnist/ --per-class 3 10 30 100 300 --threads 1 --precision fp32`.",
    ),
    Entry(
        "augmented_classifier_brain_mri",
        "Classifiers",
        "Do generated scans help?",
        "Accuracies of four arms, every run a dot: real, with classical augmentation, with generated scans, with both",
        "guide/generated_images.md#brain-scans",
        picture="arms_brain_mri.png",
        caption="From `--data scans.zip --threads 1`: accuracies, no scan.",
    ),
    Entry(
        "artists_overview",
        "Paintings",
        "Who is in a collection",
        "A sheet of 25 drawn pictures of shapes with the invented names of their painters",
        "guide/paintings.md#pictures-and-painters",
        figures=("figures/panel.png",),
    ),
    Entry(
        "painting_preprocessing",
        "Paintings",
        "From a folder to arrays",
        "A drawn picture and four random variants of it, by each of two policies",
        "guide/paintings.md",
        figures=("figures/variants.png",),
    ),
    Entry(
        "artist_classifier",
        "Paintings",
        "Who painted it?",
        "A confusion matrix of three painters after a trial of seconds: the second is never named",
        "guide/paintings.md#networks",
        figures=("figures/confusion_counts.png",),
    ),
    Entry(
        "artist_comparison",
        "Paintings",
        "Networks side by side",
        "Test accuracy of three networks, every seed a dot, beside always naming the painter with most pictures",
        "guide/paintings.md#how-well-they-do",
        figures=("figures/accuracy.png",),
    ),
    Entry(
        "artist_fine_tuning",
        "Paintings",
        "How much of a backbone to train",
        "Test accuracy with a part of a backbone frozen, and with nothing frozen",
        "guide/paintings.md#networks",
        figures=("figures/accuracy.png",),
    ),
    Entry(
        "similar_paintings",
        "Paintings",
        "Which works are like this one?",
        "Rows of drawn stripes: on the left a query, then the five pictures that are most like it",
        "guide/paintings.md#two-heads-and-similar-works",
        figures=("figures/similar.png",),
        top=0.525,
    ),
    Entry(
        "style_transfer",
        "Style transfer",
        "A picture in the manner of another",
        "A drawn face, a drawn yellow disc on black, and the face in yellow brush strokes",
        "guide/style_transfer.md",
        figures=("figures/*content.png", "figures/*style.png", "results/*.png"),
    ),
)
