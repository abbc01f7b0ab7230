"""What the results page shows of each experiment: its commands, which figures of a run, and what the source printed.

Figures of our runs stand in docs/results/, never here: `python docs/results.py collect` takes them from run folders.
The sources are five reports of students, `SOURCES`; a place is a section, table or figure of a report.
"""

from results_entries import Experiment, Figure, Picture, Run
from results_paintings import PAINTINGS

__all__ = ["EXPERIMENTS", "experiment"]

CURVES = Picture("curves.png", "curves", "Curves of the training")
SHEET = Picture("samples/*.png", "generated", "Generated samples at the end of the training")

E01 = Experiment(
    "E01",
    "Dense autoencoder, codes of 64 numbers",
    "D1 §III.A",
    "28x28 images, said to be normalised and split",
    "reconstructions in a figure, no number",
    (
        Run("document", "examples/autoencoder_fashion_mnist.py --data fashion_mnist/ --recipe document",
            ("--recipe", "--widths", "--loss", "--tied"), "clothes", "fashion_mnist", (CURVES,)),
        Run("library", "examples/autoencoder_fashion_mnist.py --data fashion_mnist/",
            ("--recipe", "--widths", "--loss", "--tied"), "clothes", "fashion_mnist", (CURVES,)),
    ),
    (
        Figure("mse", "test error of a pixel, mean square", "meta autoencoder.safetensors mse.autoencoder", ".5f"),
        Figure("components", "the same, 64 principal components",
               "meta autoencoder.safetensors mse.principal components", ".5f"),
        Figure("mean", "the same, always the mean image", "meta autoencoder.safetensors mse.mean image", ".5f"),
    ),
)  # fmt: skip

E02 = Experiment(
    "E02",
    "Denoising convolutional autoencoder",
    "D1 §III.A",
    "Fashion-MNIST with noise",
    "denoised images in a figure, no number",
    (
        Run("document", "examples/denoising_autoencoder_fashion_mnist.py --data fashion_mnist/ --recipe document",
            ("--recipe", "--channels", "--noise", "--loss"), "clothes", "fashion_mnist", (CURVES,)),
        Run("library", "examples/denoising_autoencoder_fashion_mnist.py --data fashion_mnist/",
            ("--recipe", "--channels", "--noise", "--loss"), "clothes", "fashion_mnist", (CURVES,)),
    ),
    (
        Figure("denoised", "test error of a pixel, mean square", "meta denoiser.safetensors mse.denoised", ".5f"),
        Figure("noisy", "the same, noise left in", "meta denoiser.safetensors mse.noisy", ".5f"),
        Figure("components", "the same, best number of principal components",
               "meta denoiser.safetensors mse.* components", ".5f"),
    ),
)  # fmt: skip

E03 = Experiment(
    "E03",
    "DCGAN on MNIST, the form of a tutorial",
    "D1 §III.B",
    "MNIST, 60,000 images",
    "digits can be told after some 50 epochs",
    (
        Run("document", "examples/dcgan_mnist.py --data mnist/ --form tutorial --epochs 50", ("--form", "--init"),
            "digits", "mnist", (SHEET, CURVES)),
    ),
    (
        Figure("discriminator_loss", "discriminator's loss, last three epochs", "tail 0.06 discriminator_loss", ".2f"),
        Figure("generator_loss", "generator's loss, last three epochs", "tail 0.06 generator_loss", ".2f"),
        Figure("frechet", "Fréchet distance to the test part", "score frechet_distance", ".3g"),
        Figure("confidence", "a classifier's confidence in samples", "log classifier_confidence", ".3f"),
    ),
)  # fmt: skip

E04 = Experiment(
    "E04",
    "Style transfer by VGG19",
    "D1 §III.C",
    "a photograph and Kandinsky's Composition VII",
    "pictures, no number",
    (
        Run("document",
            "examples/style_transfer.py --content photo.jpg --style painting.jpg --weights vgg19.safetensors "
            "--recipe document", ("--method", "--recipe", "--extractor"), "photographs", leaves="results/*.png"),
        Run("library",
            "examples/style_transfer.py --content photo.jpg --style painting.jpg --weights vgg19.safetensors",
            ("--method", "--recipe", "--extractor"), "photographs", leaves="results/*.png"),
    ),
    (
        Figure("loss", "loss of the last step", "log loss", ".4g"),
        Figure("content", "its part of the content", "log content", ".4g"),
        Figure("style", "its part of the style", "log style", ".4g"),
        Figure("variation", "its part of the variation", "log variation", ".4g"),
    ),
)  # fmt: skip


def _stacked(dataset: str) -> tuple[Run, ...]:
    command = f"examples/stacked_autoencoder_mnist.py --data {dataset}/"
    marks = ("--stacking", "--document", "--widths", "--labels", "--tied", "--freeze", "--unrolled-epochs")
    subject = "digits" if dataset == "mnist" else "clothes"
    confusion = Picture("**/classifier/figures/confusion_percent.png", "curves", "Shares of the answers in each class")
    return (
        Run("document", f"{command} --stacking latent_reuse --document --seeds 0 1 2", marks, subject, dataset,
            (confusion,)),
        Run("library", f"{command} --stacking greedy --seeds 0 1 2", marks, subject, dataset, (confusion,)),
        Run("not pretrained", f"{command} --stacking none --seeds 0 1 2", marks, subject, dataset),
    )  # fmt: skip


E05 = Experiment(
    "E05",
    "Classifier of stacked autoencoders, MNIST",
    "D2 exercise 3",
    "MNIST, 60,000 images to train on and 10,000 for the test",
    "a confusion matrix of which eight classes can be read: 7,736 of 7,891 right",
    _stacked("mnist"),
    (
        Figure("accuracy", "test accuracy", "json results.json results.*.val_accuracy", ".2%",
               "98.04 %", "computed from the eight legible classes of D2 Fig. 9"),
        Figure("loss", "test cross-entropy", "json results.json results.*.val_loss"),
    ),
)  # fmt: skip

E06 = Experiment(
    "E06",
    "Variational autoencoder of two latents, beside principal components",
    "D2 exercise 4",
    "Fashion-MNIST, 60,000 and 10,000 images",
    "figures; bags, trousers and boots come apart, pullovers, coats and shirts do not",
    (
        Run("document",
            "examples/vae_fashion_mnist.py --data fashion_mnist/ --sampling log_sigma --epsilon-std 0.1 --epochs 200",
            ("--sampling", "--epsilon-std", "--latent-dim", "--hidden-dims", "--kl-weight", "--channels"), "clothes",
            "fashion_mnist",
            (Picture("figures/codes_after.png", "curves", "Codes of test images, coloured by class"),)),
        Run("library", "examples/vae_fashion_mnist.py --data fashion_mnist/ --epochs 200",
            ("--sampling", "--epsilon-std", "--latent-dim", "--hidden-dims", "--kl-weight", "--channels"), "clothes",
            "fashion_mnist",
            (Picture("figures/codes_after.png", "curves", "Codes of test images, coloured by class"),
             Picture("figures/decoder_grid.png", "generated", "What the decoder makes of the plane"))),
    ),
    (
        Figure("neighbors", "accuracy of ten nearest neighbours, codes",
               "meta vae.safetensors scores.vae_neighbor_accuracy", ".1%"),
        Figure("components", "the same, two principal components",
               "meta vae.safetensors scores.principal_components_neighbor_accuracy", ".1%"),
        Figure("loss", "test loss, nats", "meta vae.safetensors scores.val_loss", ".2f"),
        Figure("kl", "of it the divergence", "meta vae.safetensors scores.val_kl", ".2f"),
    ),
)  # fmt: skip

E07 = Experiment(
    "E07",
    "Classifier of stacked autoencoders, Fashion-MNIST",
    "D2 exercise 5",
    "Fashion-MNIST, 60,000 and 10,000 images",
    "of 1,000 images each, 696 shirts, 862 coats, 870 dresses, 968 boots and 971 bags were told right",
    _stacked("fashion_mnist"),
    (
        Figure("accuracy", "test accuracy", "json results.json results.*.val_accuracy", ".2%"),
        E05.figures[1],
    ),
)  # fmt: skip

E08 = Experiment(
    "E08",
    "DCGAN on MNIST, the form of PyTorch",
    "D3 §7.1",
    "MNIST, 60,000 images",
    "a log of 50 epochs and sheets of digits",
    (
        Run("document", "examples/dcgan_mnist.py --data mnist/ --form pytorch --init torch --epochs 50",
            ("--form", "--init"), "digits", "mnist", (SHEET, CURVES)),
        Run("library", "examples/dcgan_mnist.py --data mnist/ --epochs 50", ("--form", "--init"), "digits", "mnist",
            (SHEET, CURVES)),
    ),
    (
        Figure("discriminator_loss", "discriminator's loss, last three epochs", "tail 0.06 discriminator_loss", ".2f",
               "0.31 to 0.55", "D3 §7.1, log, epochs 47 to 49"),
        Figure("generator_loss", "generator's loss", "tail 0.06 generator_loss", ".2f", "1.47 to 3.46",
               "D3 §7.1, log, epochs 47 to 49"),
        Figure("real", "D(x)", "tail 0.06 real_probability", ".2f", "0.72 to 0.97", "D3 §7.1, log, epochs 47 to 49"),
        Figure("fake", "D(G(z)) before the update", "tail 0.06 fake_probability", ".3f", "0.067 to 0.331",
               "D3 §7.1, log, epochs 47 to 49"),
        Figure("frechet", "Fréchet distance to the test part", "score frechet_distance", ".3g"),
        Figure("confidence", "a classifier's confidence in samples", "log classifier_confidence", ".3f"),
    ),
)  # fmt: skip


def _scans(preset: str, name: str, label: str) -> Run:
    options = f"--preset {preset} " if preset == "document" else ""
    command = f"examples/wgan_gp_brain_mri.py --data brain_mri/ {options}--label {label}"
    marks = ("--preset", "--label", "--n-critic", "--mixing", "--dropout", "--resolution")
    return Run(name, command, marks, "scans", pictures=(CURVES,))


E09 = Experiment(
    "E09",
    "WGAN-GP of brain scans, 128 px",
    "D3 §8.2",
    "253 scans, 98 without a tumour and 155 with; one class at a time",
    "a log of 20 epochs, about 40 minutes on an A100; its critic ends by ranking fakes above reals (X17)",
    (
        _scans("document", "document, with", "yes"),
        _scans("document", "document, without", "no"),
        _scans("library", "library, with", "yes"),
        _scans("library", "library, without", "no"),
    ),
    (
        Figure("c_wass_loss", "critic's Wasserstein term, last epoch", "log c_wass_loss", ".2f", "6.9371",
               "D3 §8.2, log, epoch 20"),
        Figure("c_gp", "penalty without its weight", "log c_gp", ".3f", "0.1840", "D3 §8.2, log, epoch 20"),
        Figure("c_loss", "critic's loss", "log c_loss", ".2f", "8.7772", "D3 §8.2, log, epoch 20"),
        Figure("g_loss", "generator's loss", "log g_loss", ".1f", "-1468.3656", "D3 §8.2, log, epoch 20"),
        Figure("frechet", "Fréchet distance to the scans trained on, random network", "score frechet_distance", ".3g"),
        Figure("memorisation", "memorisation by pixels; below -3 means learnt by heart", "score memorisation_pixels",
               ".2f"),
    ),
)  # fmt: skip

E10 = Experiment(
    "E10",
    "ProGAN",
    "D3 §9.3",
    "CelebA-HQ, 30,000 faces",
    "a sheet of faces after three days on an RTX 2060, no number",
    (
        Run("document", "examples/progan_celeba.py --data celeba_hq.zip --preset document --resolution 1024",
            ("--preset", "--drawn", "--crop"), "faces", pictures=(CURVES,)),
        Run("library", "examples/progan_celeba.py --data faces.zip --resolution 64", ("--preset", "--drawn", "--crop"),
            "faces", pictures=(CURVES,)),
        Run("drawn faces", "examples/progan_celeba.py --drawn 8000", ("--preset", "--drawn"), "drawn",
            pictures=(SHEET, CURVES)),
    ),
    (
        Figure("images", "images seen", "log images_seen", ",.0f"),
        Figure("distance", "sliced Wasserstein distance to images held out", "log sliced_wasserstein_distance"),
        Figure("frechet", "Fréchet distance", "score frechet_distance", ".3g"),
        Figure("memorisation", "memorisation by pixels; below -3 means learnt by heart", "score memorisation_pixels",
               ".2f"),
    ),
)  # fmt: skip

E11 = Experiment(
    "E11",
    "Classifier of tumours with and without generated scans",
    "D3 §10",
    "253 scans; 469 with the generated ones, by the source's logs",
    "generated scans are said to help; X34 to X36 tell why that does not follow",
    (
        Run("document",
            "examples/augmented_classifier_brain_mri.py --data scans.zip --protocol document --model efficientnet_b3 "
            "--weights b3.safetensors", ("--protocol", "--gan"), "scans",
            figures=(
                Figure("real", "real: accuracy", "cell comparison.md | real | accuracy", "", "88.24 % (45 of 51)",
                       "D3 §10, table"),
                Figure("mixed", "real and generated: accuracy", "cell comparison.md | mixed | accuracy", "",
                       "93.62 % (88 of 94)", "D3 §10, table"),
                Figure("real_interval", "real: first seed, interval",
                       "cell comparison.md | real | first seed, with its interval", ""),
                Figure("mixed_interval", "real and generated: first seed, interval",
                       "cell comparison.md | mixed | first seed, with its interval", ""),
                Figure("real_loss", "real: cross-entropy", "cell comparison.md | real | cross-entropy", "",
                       "3.1613 with penalties", "D3 §10, table"),
                Figure("mixed_loss", "real and generated: cross-entropy",
                       "cell comparison.md | mixed | cross-entropy", "", "0.7807 with penalties", "D3 §10, table"),
            )),
        Run("library", "examples/augmented_classifier_brain_mri.py --data scans.zip", ("--protocol", "--gan"), "scans",
            pictures=(Picture("figures/arms.png", "curves", "Accuracy of every run of each arm"),),
            figures=tuple(
                Figure(arm.replace(" ", ""), f"{arm}: accuracy", f"cell comparison.md | {arm} | accuracy", "")
                for arm in ("real", "real + classical", "real + generated", "real + both")
            )),
    ),
)  # fmt: skip

EXPERIMENTS = (E01, E02, E03, E04, E05, E06, E07, E08, E09, E10, E11, *PAINTINGS)


def experiment(name: str) -> Experiment:
    """The experiment of this name.

    Raises:
        ValueError: There is none.
    """
    for entry in EXPERIMENTS:
        if entry.name == name:
            return entry
    raise ValueError(f"no experiment {name!r}: they are {EXPERIMENTS[0].name} to {EXPERIMENTS[-1].name}")
