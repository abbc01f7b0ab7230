"""The house keeps its shape: who may import whom, what may not be there at all, and where everything stands.

Each rule collects what breaks it, so that one failure names every place.
"""

import ast
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "ganblocks"
FILES = sorted(path.relative_to(SOURCE) for path in SOURCE.rglob("*.py"))
TREES = {path: ast.parse((SOURCE / path).read_text(encoding="utf-8")) for path in FILES}
PACKAGES = ["ganblocks", *(".".join(("ganblocks", *p.parent.parts)) for p in FILES if len(p.parts) > 1)]
PACKAGES = sorted({name for name in PACKAGES if (SOURCE.parent / name.replace(".", "/") / "__init__.py").is_file()})

GROUND = {"errors", "_checks", "_files", "_json", "_modes", "_version"}
MAY_IMPORT = {
    "_version": set(),
    "errors": set(),
    "_checks": set(),
    "_files": set(),
    "_json": set(),
    "_modes": set(),
    "__init__": {"_version"},
    "functional": GROUND,
    "ops": GROUND | {"functional"},
    "layers": GROUND | {"functional", "ops"},
    "models": GROUND | {"functional", "ops", "layers"},
    "losses": GROUND | {"functional"},
    "data": GROUND | {"functional"},
    "metrics": GROUND | {"functional"},
    "visualization": GROUND | {"functional"},
    "training": GROUND | {"functional", "losses", "metrics", "data", "visualization"},
}
EXTRAS = (
    "matplotlib",
    "tensorboard",
    "torch.utils.tensorboard",
    "networkx",
    "torchvision",
    "timm",
    "sklearn",
    "skimage",
    "torch_fidelity",
    "pooch",
    "huggingface_hub",
    "onnx",
    "onnxscript",
)
NO_PICKLE = ("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")
DOOR_FOR_FOREIGN_FILES = Path("training/saved_weights.py")  # the only one that may call torch.load, weights_only=True
LONGEST_FILE = 400  # lines, excluded


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def walk(tree: ast.AST, *, at_import: bool) -> Iterator[ast.AST]:
    """All nodes, or only those that run when the module is imported."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        if at_import and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if at_import and is_type_checking(child):
            for statement in child.orelse:  # type: ignore[attr-defined]
                yield from walk(statement, at_import=True)
            continue
        yield from walk(child, at_import=at_import)


def imports(tree: ast.AST, path: Path, *, at_import: bool = False) -> set[str]:
    """Dotted names of everything imported, relative names made absolute; ``from a import b`` counts as ``a.b``."""
    package = ("ganblocks", *path.parent.parts)
    names: set[str] = set()
    for node in walk(tree, at_import=at_import):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            prefix = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*prefix, *([node.module] if node.module else ())))
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


IMPORTS = {path: imports(tree, path) for path, tree in TREES.items()}


def within(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def floor(path: Path) -> str:
    """The part of the house that a file belongs to: its first folder, or its own name."""
    return path.parts[0].removesuffix(".py")


def forbidden_imports(tree: ast.AST, path: Path) -> set[str]:
    """Parts of the house that this file imports and may not."""
    if floor(path) not in MAY_IMPORT:  # cli and __main__ may import everything
        return set()
    used = {name.split(".")[1] for name in imports(tree, path) if name.startswith("ganblocks.")}
    return used - MAY_IMPORT[floor(path)] - ({floor(path)} if len(path.parts) > 1 else set())


def called(tree: ast.AST) -> set[str]:
    """Dotted names of everything called."""
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


def public_names(tree: ast.Module) -> list[str] | None:
    """``__all__`` as it is written, None where it is missing."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


def sort_key(name: str) -> tuple[int, str]:
    """CONSTANTS, then Classes, then functions, as the linter sorts them."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize(
    ("path", "code", "found"),
    [
        ("training/steps.py", "from ganblocks.models.progan import Generator", {"models"}),
        ("training/steps.py", "def f():\n    from ..models import progan", {"models"}),
        ("losses/penalties.py", "import ganblocks.training.ema as ema", {"training"}),
        ("functional/fade.py", "from ganblocks import ops", {"ops"}),
        ("functional/fade.py", "from . import latent", set()),
        ("_checks.py", "from .errors import DataError", {"errors"}),
        ("models/progan.py", "if TYPE_CHECKING:\n    from ganblocks.losses import hinge", {"losses"}),
        ("models/progan.py", "from ganblocks.layers.pixel_norm import PixelNorm\nimport torch", set()),
        ("cli/entry.py", "from ganblocks import training, models", set()),
    ],
)
def test_this_file_would_notice_an_import_upwards(path: str, code: str, found: set[str]) -> None:
    assert forbidden_imports(ast.parse(code), Path(path)) == found


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import matplotlib.pyplot as plt", True),
        ("try:\n    from torch.utils.tensorboard import SummaryWriter\nexcept ImportError:\n    pass", True),
        ("class A:\n    import skimage", True),
        ("if TYPE_CHECKING:\n    from matplotlib.axes import Axes", False),
        ("if TYPE_CHECKING:\n    pass\nelse:\n    import timm", True),
        ("def f():\n    import sklearn", False),
        ("from torch.utils import data", False),
    ],
)
def test_this_file_would_notice_an_extra_at_the_top(code: str, found: bool) -> None:
    names = imports(ast.parse(code), Path("data/x.py"), at_import=True)
    assert any(within(name, EXTRAS) for name in names) == found


def test_every_part_of_the_house_has_its_rule() -> None:
    assert {floor(path) for path in FILES} <= MAY_IMPORT.keys() | {"cli", "__main__"}


def test_imports_go_downwards_only() -> None:
    upwards = {str(path): sorted(bad) for path, tree in TREES.items() if (bad := forbidden_imports(tree, path))}
    assert upwards == {}


def test_models_hold_no_optimizer() -> None:
    users = [
        str(path)
        for path, tree in TREES.items()
        if floor(path) == "models"
        and (
            any(within(name, ("torch.optim",)) for name in IMPORTS[path])
            or any(isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.optim" for node in ast.walk(tree))
        )
    ]
    assert users == []


def test_only_the_kernels_import_triton() -> None:
    users = [str(path) for path in FILES if any(within(name, ("triton",)) for name in IMPORTS[path])]
    assert [name for name in users if not name.startswith("ops/kernels/")] == []


def test_no_extra_is_imported_at_the_top_of_a_file() -> None:
    eager = {
        str(path): sorted(bad)
        for path, tree in TREES.items()
        if (bad := {name for name in imports(tree, path, at_import=True) if within(name, EXTRAS)})
    }
    assert eager == {}


def reads_only_tensors(tree: ast.AST) -> bool:
    """Whether every ``torch.load`` in this file is the restricted one, in so many words."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"]
    return all("weights_only=True" in map(ast.unparse, call.keywords) for call in calls)


def test_there_is_no_pickle_and_no_evaluation_of_text() -> None:
    unsafe: dict[str, list[str]] = {}
    for path, tree in TREES.items():
        bad = {name for name in IMPORTS[path] if within(name, NO_PICKLE)}
        bad |= {"torch.load", "torch.save", "eval", "exec", "compile", "__import__"} & called(tree)
        if path == DOOR_FOR_FOREIGN_FILES and reads_only_tensors(tree):
            bad -= {"torch.load"}
        bad |= {"torch.load", "torch.save"} & IMPORTS[path]
        bad |= {
            "allow_pickle=True"
            for node in ast.walk(tree)
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False"
        }
        if bad:
            unsafe[str(path)] = sorted(bad)
    assert unsafe == {}


RUNS_WHAT_IT_IS_TOLD = (
    *("yaml", "runpy", "code", "codeop", "pydoc", "imp", "torch.hub", "torch.package", "torch.jit", "ctypes"),
    *("xml", "xmlrpc", "tarfile", "subprocess", "pty"),
)
CALLS_THAT_RUN_TEXT = (
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system", "os.popen", "torch.hub.load", "torch.jit.load"),
    *(
        "torch.package.PackageImporter",
        "pydoc.locate",
        "operator.attrgetter",
        "pkgutil.resolve_name",
        "globals",
    ),
)


def names_from_outside(tree: ast.AST) -> list[str]:
    """Modules that are imported by a name which does not stand in the file: each such call, as it is written."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    through = {"importlib.import_module": 0, "import_module": 0}
    for function in functions:  # one that hands its own argument on counts as the import itself
        handed = {ast.unparse(c.args[0]) for c in calls if ast.unparse(c.func) in through and c in ast.walk(function)}
        names = [argument.arg for argument in function.args.args]
        for name in handed & set(names):
            through[function.name] = names.index(name)
    handing = {id(call) for function in functions if function.name in through for call in ast.walk(function)}
    return [
        ast.unparse(call)
        for call in calls
        if (position := through.get(ast.unparse(call.func))) is not None
        and id(call) not in handing
        and not (len(call.args) > position and isinstance(call.args[position], ast.Constant))
    ]


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("importlib.import_module('a.b')", 0),
        ("importlib.import_module(config['class'])", 1),
        ("def extra(name):\n    return importlib.import_module(name)\nextra('skimage')", 0),
        ("def extra(name):\n    return importlib.import_module(name)\nextra(json.loads(text))", 1),
        ("def extra(why, name):\n    return importlib.import_module(name)\nextra(text, 'skimage')", 0),
        ("importlib.import_module(f'{package}.models')", 1),
    ],
)
def test_this_file_would_notice_an_import_by_a_name_from_outside(code: str, found: int) -> None:
    assert len(names_from_outside(ast.parse(code))) == found


def test_no_text_from_outside_names_what_is_run() -> None:
    """Settings and files choose from tables; they name no module, no class and no command."""
    unsafe = {}
    for path, tree in TREES.items():
        bad = {name for name in IMPORTS[path] if within(name, RUNS_WHAT_IT_IS_TOLD)}
        bad |= set(CALLS_THAT_RUN_TEXT) & called(tree)
        bad |= set(names_from_outside(tree))
        bad |= {
            ast.unparse(node)
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and ast.unparse(node.func) in ("np.load", "numpy.load")
            and "allow_pickle=False" not in map(ast.unparse, node.keywords)
        }
        bad |= {"shell=True" for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "shell"}
        if bad:
            unsafe[str(path)] = sorted(bad)
    assert unsafe == {}


def test_no_file_has_a_name_that_says_nothing() -> None:
    vague = {"utils", "util", "misc", "helpers", "helper", "common", "tools"}
    assert [str(path) for path in FILES if vague & {part.removesuffix(".py").strip("_") for part in path.parts}] == []


def test_every_folder_is_a_package() -> None:
    assert [str(p) for p in FILES if not (SOURCE / p.parent / "__init__.py").is_file()] == []


@pytest.mark.parametrize("path", [path for path in FILES if path.name == "__init__.py"], ids=str)
def test_an_init_file_only_re_exports(path: Path) -> None:
    body = TREES[path].body
    assert ast.get_docstring(TREES[path])
    others = [node for node in body[1:] if not isinstance(node, ast.ImportFrom) and public_names_node(node) is None]
    assert [ast.unparse(node) for node in others] == []


def public_names_node(node: ast.stmt) -> list[str] | None:
    return public_names(ast.Module(body=[node], type_ignores=[]))


@pytest.mark.parametrize("package", PACKAGES)
def test_the_names_of_a_package_are_sorted_importable_and_public_where_they_come_from(package: str) -> None:
    module = importlib.import_module(package)
    names = module.__all__
    assert names == sorted(set(names), key=sort_key)
    assert [name for name in names if not hasattr(module, name)] == []
    assert Path(str(module.__file__)).is_relative_to(SOURCE)
    path = Path(*package.split(".")[1:], "__init__.py")
    imported = {
        alias.asname or alias.name: node.module
        for node in TREES[path].body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(imported) == set(names)
    for name, origin in imported.items():
        assert origin is not None
        if origin != package and not origin.endswith("._version"):
            assert name in importlib.import_module(origin).__all__, f"{origin}.__all__ lacks {name}"


def module_names(tree: ast.Module) -> Iterator[str]:
    """What the module defines or imports at its top."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            yield from map(ast.unparse, node.targets if isinstance(node, ast.Assign) else [node.target])
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)


def test_every_public_module_has_a_docstring_and_names_that_exist() -> None:
    faults = []
    for path, tree in TREES.items():
        if path.name.startswith("_"):
            continue
        defined = set(module_names(tree))
        names = public_names(tree)
        if not ast.get_docstring(tree):
            faults.append(f"{path}: no docstring")
        if names is None:
            faults.append(f"{path}: no __all__")
        else:
            faults += [f"{path}: __all__ names {name}, which is not defined there" for name in set(names) - defined]
            if names != sorted(names, key=sort_key):
                faults.append(f"{path}: __all__ is not sorted")
    assert faults == []


def test_every_public_thing_has_a_docstring() -> None:
    silent = [
        f"{path}: {node.name}"
        for path, tree in TREES.items()
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and node.name in (public_names(tree) or ())
        and not ast.get_docstring(node)
    ]
    assert silent == []


def homes_of_tests(path: Path) -> list[Path]:
    """Where the tests of a file may stand; those of a kernel also with the op of its name."""
    name = f"test_{path.stem.removeprefix('_')}.py"
    places = [ROOT / "tests" / path.parent / name]
    if path.parts[:2] == ("ops", "kernels"):
        places.append(ROOT / "tests" / "ops" / name)
    return places


def test_every_module_has_tests_of_its_name() -> None:
    modules = [path for path in FILES if path.name not in ("__init__.py", "__main__.py", "_version.py")]
    assert [str(path) for path in modules if not any(place.is_file() for place in homes_of_tests(path))] == []


def test_every_example_has_tests_of_its_name() -> None:
    examples = sorted((ROOT / "examples").glob("*.py"))
    assert examples
    assert [path.name for path in examples if not (ROOT / "tests/examples" / f"test_{path.name}").is_file()] == []


def test_files_are_short_enough_to_hold_in_the_head() -> None:
    lengths = {str(path): len((SOURCE / path).read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length >= LONGEST_FILE} == {}


WITHOUT_EXTRAS = """
import importlib.abc, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

BLOCKED = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Missing())
import importlib
import ganblocks, ganblocks.layers
from ganblocks.layers import WSConv2d
print(WSConv2d(3, 4, 3))
for package in sys.argv[2].split(","):
    importlib.import_module(package)
print(sorted(BLOCKED & sys.modules.keys()))
"""


def test_everything_can_be_imported_without_any_extra() -> None:
    blocked = [name for name in EXTRAS if "." not in name]
    command = [sys.executable, "-c", WITHOUT_EXTRAS, ",".join(blocked), ",".join(PACKAGES)]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE.parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("WSConv2d(3, 4, kernel_size=")
    assert lines[-1] == "[]"
