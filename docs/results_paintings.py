"""The half of :mod:`results_table` that is about paintings: E12 to E21."""

from results_entries import Experiment, Figure, Picture, Run

__all__ = ["PAINTINGS"]

CONFUSION = Picture("figures/confusion_percent.png", "curves", "Shares of the answers for each painter")
PAINTER_CURVES = Picture("figures/curves.png", "curves", "Loss and accuracy in training and validation")

E12 = Experiment(
    "E12",
    "Preparing paintings",
    "D0 §4.1",
    "Best Artworks of All Time; the first file of each folder",
    "a log of files",
    (
        Run("library", "examples/painting_preprocessing.py --data paintings.zip --artists artists.csv", ("--policy",),
            "photographs", leaves="summary.md"),
        Run("document", "examples/painting_preprocessing.py --data paintings.zip --artists artists.csv "
            "--limit-per-class 1 --float64", ("--policy", "--limit-per-class"), "photographs", leaves="summary.md"),
    ),
    (
        Figure("pictures", "pictures", "event start pictures", ",.0f"),
        Figure("resized", "files of 300x300", "count resized_images/**/*.jpg", ",.0f"),
        Figure("generated", "files with variants, five a picture", "count generated_images/**/*.jpg", ",.0f",
               "5 a picture", "D0 §4.1, step 2"),
        Figure("arrays", "arrays", "count normalized_images/**/*.npy", ",.0f"),
    ),
)  # fmt: skip

ACCURACY = Figure("accuracy", "test accuracy", "json results.json seeds.*.accuracy", ".1%")
MAJORITY = Figure("majority", "always the painter with most pictures", "json results.json majority", ".1%")
PARAMETERS = Figure("parameters", "parameters", "json results.json parameters", ",.0f")
MARKS = ("--model", "--preset", "--freeze", "--size")


def _painters(model: str, options: str = "--artists 5") -> Run:
    command = f"examples/artist_classifier.py --data paintings.zip --table artists.csv --model {model}"
    return Run("document", f"{command} --preset document {options}", MARKS, "photographs",
               pictures=(PAINTER_CURVES, CONFUSION))  # fmt: skip


def _told(printed: str, place: str, parameters: str = "") -> tuple[Figure, ...]:
    of_model = Figure("parameters", "parameters", PARAMETERS.source, ",.0f", parameters, place if parameters else "")
    accuracy = Figure("accuracy", "test accuracy", ACCURACY.source, ".1%", printed, place if printed else "")
    return accuracy, Figure("majority", MAJORITY.label, MAJORITY.source, ".1%"), of_model


E13 = Experiment(
    "E13",
    "Convolutional network that names the painter",
    "D0 §4.2",
    "Best Artworks of All Time at 300 px, said to be of 49 painters",
    "\"recognised some paintings, less precisely than hoped\", no number",
    (
        _painters("painting_cnn", "--artists 50"),
        Run("library", "examples/artist_classifier.py --data paintings.zip --artists 10 --shares 0.8 0.2",
            (*MARKS, "--shares"), "photographs", pictures=(CONFUSION,)),
    ),
    _told("", "D0 §4.2"),
)  # fmt: skip


def _selection(count: str, pictures: str, majority: str) -> tuple[Figure, ...]:
    row = f"cell overview.md | {count}"
    return (
        Figure(f"pictures_{count}", f"pictures of the {count} painters with most", f"{row} | pictures", "", pictures,
               "computed from the counts of D0 §3.2"),
        Figure(f"majority_{count}", "share of the largest painter", f"{row} | majority rate", "", majority, "the same"),
    )  # fmt: skip


E14 = Experiment(
    "E14",
    "A look at the paintings, choice of painters",
    "D4 EDA to Data Wrangling",
    "Best Artworks of All Time, 8,446 pictures of 50 painters",
    "figures",
    (
        Run("library", "examples/artists_overview.py --data paintings.zip --artists artists.csv", ("--top",),
            "photographs",
            pictures=(Picture("figures/counts_all.png", "curves", "Pictures of each painter"),
                      Picture("figures/movements.png", "curves", "Painters linked through movements"))),
    ),
    (*_selection("5", "2,682", "32.7 %"), *_selection("10", "4,060", "21.6 %")),
)  # fmt: skip

E15 = Experiment(
    "E15", "Simple network that names five painters", "D4 Red Neuronal Simple", "five painters at 100 px",
    "ended after 11 of 100 epochs; 53 %, later quoted as 55 %", (_painters("simple"),),
    _told("53 %", "D4 Red Neuronal Simple", "a little over 3 million"),
)  # fmt: skip

E16 = Experiment(
    "E16", "Convolutional network that names five painters", "D4 Redes Convolucionales", "five painters at 100 px",
    "ended after 11 of 100 epochs; slightly below E15", (_painters("cnn"),),
    _told("slightly below E15", "D4 Redes Convolucionales", "more than 47 million"),
)  # fmt: skip

E17 = Experiment(
    "E17", "VGG16 from random weights", "D4 VGG-16", "five painters at 100 px",
    "ended after 15 of 100 epochs; 18 %, later quoted as 33 %, which is the share of the largest painter (X46)",
    (_painters("vgg16"),), _told("18 %", "D4 VGG-16", "more than 50 million"),
)  # fmt: skip

E18 = Experiment(
    "E18", "DenseNet121", "D4 DenseNet121", "five painters",
    "the second worst, no number; its author suspects a faulty run", (_painters("densenet121"),),
    _told("", "D4 DenseNet121"),
)  # fmt: skip


def _tuned(name: str, step: str, artists: int, printed: str) -> Run:
    command = (
        "examples/artist_fine_tuning.py --data paintings.zip --table artists.csv --weights "
        f"inception_resnet_v2.safetensors --steps {step} --artists {artists}"
    )
    accuracy = Figure("accuracy", "test accuracy", "json fine_tuning.json *.seeds.*.accuracy", ".1%", printed,
                      "D4 Fine Tuning")  # fmt: skip
    majority = Figure("majority", MAJORITY.label, "json fine_tuning.json *.majority", ".1%")
    return Run(name, command, ("--steps", "--artists", "--path", "--model"), "photographs",
               figures=(accuracy, majority))  # fmt: skip


E19 = Experiment(
    "E19", "InceptionResNetV2, frozen in part, at several sizes", "D4 InceptionResNETV2 and Fine Tuning",
    "5, 10 and 50 painters at 100 to 300 px", "the best network of its text",
    (
        Run("100 px, 5 painters",
            "examples/artist_classifier.py --data paintings.zip --table artists.csv --model inception_resnet_v2 "
            "--preset document --weights inception_resnet_v2.safetensors --artists 5", MARKS, "photographs",
            pictures=(PAINTER_CURVES, CONFUSION), figures=_told("76 %", "D4 InceptionResNETV2")),
        _tuned("250 px, 700 layers frozen, 5 painters", "250:700", 5, "90 %"),
        _tuned("300 px, 700 layers frozen, 10 painters", "300:700", 10, "88 %"),
        _tuned("300 px, 600 layers frozen, 50 painters", "300:600", 50, "79 %"),
    ),
)  # fmt: skip

E20 = Experiment(
    "E20", "NASNet", "D4 NasNET", "five painters", "ended after 37 epochs; 71 % in validation, no test",
    (_painters("nasnet", "--artists 5 --weights nasnet.safetensors"),), _told("71 % in validation", "D4 NasNET"),
)  # fmt: skip


def _compared(model: str, printed: str) -> Figure:
    place = "D4 Comparativa" if printed else ""
    return Figure(model, f"{model}: test accuracy", f"json comparison.json {model}.seeds.*.accuracy", ".1%", printed,
                  place)  # fmt: skip


E21 = Experiment(
    "E21", "All networks side by side; similar paintings", "D4 Comparativa and Conclusiones", "five painters",
    "InceptionResNetV2 and NASNet lead; similar works and movements are future work",
    (
        Run("comparison", "examples/artist_comparison.py --data paintings.zip --table artists.csv --artists 5",
            ("--preset", "--artists"), "photographs",
            pictures=(Picture("figures/curves.png", "curves", "Validation accuracy of all networks over the epochs"),),
            figures=(
                _compared("simple", "55 %"), _compared("cnn", ""), _compared("painting_cnn", ""),
                _compared("vgg16", "33 %"), _compared("densenet121", ""),
                _compared("inception_resnet_v2", "76 %"), _compared("nasnet", "71 % in validation"),
            )),
        Run("similar paintings", "examples/similar_paintings.py --data paintings.zip --table artists.csv --artists 10",
            ("--artists", "--movement-weight"), "photographs",
            pictures=(Picture("figures/precision.png", "curves", "Precision of every seed and way to compare"),),
            figures=tuple(
                Figure(way.replace(" ", "_"), f"{way}: of five neighbours by the same painter",
                       f"json results.json precision.{way}.*.painter", ".1%")
                for way in ("two heads", "one head", "autoencoder", "components", "pixels", "untrained", "chance")
            )),
    ),
)  # fmt: skip

PAINTINGS = (E12, E13, E14, E15, E16, E17, E18, E19, E20, E21)
