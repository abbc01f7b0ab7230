"""The pages of the API: which name stands where, and a Sphinx directive that writes one page for one package.

Every name in an ``__all__`` of the library is documented once, at its home: where its package exports it, or else the
module that does. All other paths to it (``ganblocks.layers.weight_scale.WSConv2d``) are entered as further names of the
same place, so links by any of them resolve. Only modules with a leading underscore, the kernels and the command line
are left out.
"""

import ast
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

__all__ = ["PACKAGES", "Entry", "entries", "hidden_names", "page", "spots"]

PACKAGES = (
    "functional",
    "ops",
    "layers",
    "losses",
    "models",
    "data",
    "metrics",
    "training",
    "visualization",
    "errors",
)
# What classes get from these is described where they are.
FOREIGN_BASES = (
    "Module, Optimizer, Generator, Dataset, Sampler, BaseException, Generic, Protocol, ABC, Thread, tuple, dict"
)
INSIDE = """What the package is made of. It is documented for those who work on the library or build on its parts; it
may change with any release."""


@dataclass(frozen=True)
class Entry:
    """One documented name.

    Args:
        home: Full name under which it is documented.
        kind: What autodoc calls it: ``class``, ``exception``, ``function`` or ``data``.
        module: Module in whose section it stands.
        spots: All full names under which an ``__all__`` offers it.
    """

    home: str
    kind: str
    module: str
    spots: tuple[str, ...]


def modules_of(package: ModuleType) -> list[ModuleType]:
    """The package and its public modules, by name."""
    if not hasattr(package, "__path__"):
        return [package]
    names = sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.ispkg and not m.name.startswith("_"))
    return [package, *(importlib.import_module(f"{package.__name__}.{name}") for name in names)]


def all_modules() -> Iterator[tuple[ModuleType, ModuleType]]:
    """Every package with each of its modules, itself first."""
    for name in PACKAGES:
        package = importlib.import_module(f"ganblocks.{name}")
        for module in modules_of(package):
            yield package, module


def spots() -> Iterator[tuple[ModuleType, ModuleType, str, Any]]:
    """Every place where an ``__all__`` offers something that is no module: package, module, name and the thing."""
    for package, module in all_modules():
        for name in module.__all__:
            thing = getattr(module, name)
            if not isinstance(thing, ModuleType):
                yield package, module, name, thing


def kind_of(thing: Any) -> str:
    """What autodoc calls it."""
    if inspect.isclass(thing):
        return "exception" if issubclass(thing, BaseException) else "class"
    return "function" if inspect.isroutine(thing) else "data"


def _rank(package: ModuleType, module: ModuleType, thing: Any) -> int:
    """How good a home this is, 0 the best."""
    origin = str(getattr(thing, "__module__", ""))
    if module is package:
        return 0 if origin.startswith(package.__name__) else 1
    if module.__name__.rpartition(".")[2] in package.__all__:
        return 2
    return 3 if origin == module.__name__ else 4


@cache
def entries() -> tuple[Entry, ...]:
    """Everything that is documented, by home."""
    groups: dict[tuple[int, str], list[tuple[int, str, str, Any]]] = {}
    for package, module, name, thing in spots():
        key = (id(thing), name if kind_of(thing) == "data" else "")  # equal numbers are often one object
        found = (_rank(package, module, thing), module.__name__, name, thing)
        groups.setdefault(key, []).append(found)
    result = []
    for group in groups.values():
        _, home, name, thing = min(group, key=lambda found: found[:3])
        inner = [m for _, m, _, _ in sorted(group, key=lambda found: found[:3]) if m.startswith(home + ".")]
        origin = str(getattr(thing, "__module__", ""))
        section = origin if origin in inner else inner[0] if inner else home
        names = tuple(sorted(f"{m}.{n}" for _, m, n, _ in group))
        result.append(Entry(f"{home}.{name}", kind_of(thing), section, names))
    return tuple(sorted(result, key=lambda entry: entry.home))


def hidden_names() -> list[str]:
    """Patterns for functions and classes that a module defines without an underscore and without offering them."""
    hidden = []
    for _, module in all_modules():
        for name, thing in vars(module).items():
            if getattr(thing, "__module__", None) == module.__name__ and name not in module.__all__:
                hidden.append(rf"^{re.escape(f'{module.__name__}.{name}')}(\.|$)")
    return sorted(hidden)


def _entry_text(entry: Entry) -> str:
    options = f"   :members:\n   :inherited-members: {FOREIGN_BASES}\n" if entry.kind in ("class", "exception") else ""
    return f".. auto{entry.kind}:: {entry.home}\n{options}\n"


def _module_text(module: ModuleType, package: ModuleType) -> str:
    namesake = module.__name__.rpartition(".")[2] in package.__all__ and not isinstance(
        getattr(package, module.__name__.rpartition(".")[2]), ModuleType
    )  # ganblocks.ops.blur is a function and a module: links lead to the function
    return f".. automodule:: {module.__name__}\n" + ("   :no-index:\n\n" if namesake else "\n")


def _section(title: str, underline: str) -> str:
    return f"{title}\n{underline * len(title)}\n\n"


def page(package_name: str) -> str:
    """The text below the title of a package's page: a section for a module, those that export nothing at the end."""
    package = importlib.import_module(f"ganblocks.{package_name}")
    text = f".. automodule:: {package.__name__}\n\n"
    inside = ""
    mine = [entry for entry in entries() if entry.home.startswith(package.__name__ + ".")]
    for module in modules_of(package):
        held = [entry for entry in mine if entry.module == module.__name__]
        name = module.__name__.rpartition(".")[2]
        body = "".join(_entry_text(entry) for entry in sorted(held, key=lambda entry: entry.spots[0].count(".")))
        if module is package:
            text += body
        elif held:
            exported = name in package.__all__ or any(entry.home.count(".") == 2 for entry in held)
            part = _section(name, "-" if exported else "~") + _module_text(module, package) + body
            text, inside = (text + part, inside) if exported else (text, inside + part)
    elsewhere = [
        f"* :py:obj:`~{entry.home}`\n"
        for entry in entries()
        for spot in entry.spots
        if spot.rpartition(".")[0] == package.__name__ and entry not in mine
    ]
    if elsewhere:
        text += _section("From other packages", "-") + "".join(elsewhere) + "\n"
    return text + (_section("Inside", "-") + f"{INSIDE}\n\n{inside}" if inside else "")


# --- what Sphinx calls ---


def _add_further_names(app: Any, env: Any) -> list[str]:
    """Enter every other path to a documented name, and to what it holds."""
    objects = env.domains.python_domain.objects
    documented = sorted(objects.items())
    modules = env.domains.python_domain.modules
    for package, module in all_modules():  # a module whose names all stand elsewhere has no section
        objects.setdefault(module.__name__, objects[package.__name__]._replace(aliased=True))
        modules.setdefault(module.__name__, modules[package.__name__])
    for entry in entries():
        for spot in entry.spots:
            for name, found in documented:
                if spot != entry.home and (name == entry.home or name.startswith(entry.home + ".")):
                    objects.setdefault(spot + name.removeprefix(entry.home), found._replace(aliased=True))
    return []


def _resolve(app: Any, env: Any, node: Any, content: Any) -> Any:
    """A second look at what Sphinx could not find.

    A name without a path is looked for in the whole package. Single backticks around anything else are code. Types of
    other libraries have no page here. Everything else, above all a name of ours that does not exist, stays a warning.
    """
    from sphinx.util.nodes import make_refnode

    if node.get("refdomain") != "py":
        return None
    target = str(node["reftarget"])
    package = ".".join(str(node.get("py:module") or "").split(".")[:2])
    homes = [e.home for e in entries() if e.home.startswith(package + ".") and e.home.endswith("." + target)]
    found = env.domains.python_domain.objects.get(homes[0]) if len(homes) == 1 else None
    if found is not None:
        return make_refnode(app.builder, node["refdoc"], found.docname, found.node_id, content, homes[0])
    if target.startswith("ganblocks."):  # a type variable or an alias in a signature: it exists, but has no page
        module, _, name = target.rpartition(".")
        exists = node.get("reftype") == "class" and hasattr(sys.modules.get(module), name)
        return content if exists else None
    if node.get("reftype") == "class" and hasattr(sys.modules.get(str(node.get("py:module"))), target):
        return content
    foreign = "." in target and node.get("reftype") in ("class", "obj", "data", "attr", "exc", "meth", "func")
    return content if node.get("reftype") == "obj" or (foreign and target.split(".")[0] in _FOREIGN) else None


_FOREIGN = {"PIL", "collections", "concurrent", "contextlib", "datetime", "logging", "matplotlib", "numpy", "os"}
_FOREIGN |= {"pathlib", "random", "threading", "torch", "types", "typing", "zipfile"}


def _skip_member(app: Any, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """Show public methods and properties without a text of their own, too."""
    own = inspect.isroutine(thing) or isinstance(thing, property)
    return (
        False
        if own and not name.startswith("_") and str(getattr(thing, "__module__", "")).startswith("ganblocks")
        else None
    )


def _give_types() -> None:
    """Let annotations be resolved: do what stands below ``if TYPE_CHECKING:``, now that all is imported."""
    for _, module in list(all_modules()):
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                exec(compile(ast.Module(node.body, []), module.__file__ or "", "exec"), vars(module))


def _read_attribute(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Keep napoleon from reading ``Size: in pixels.`` of an attribute as one of the type ``Size``."""
    from sphinx.ext.napoleon import GoogleDocstring
    from sphinx.pycode import ModuleAnalyzer

    if what == "data":  # what stands beside a constant, and not what its type says of itself
        module = next((entry.module for entry in entries() if entry.home == name), None)
        texts = ModuleAnalyzer.for_module(module).find_attr_docs() if module else {}
        lines[:] = texts.get(("", name.rpartition(".")[2]), [])
    if what in ("attribute", "data", "property"):
        text = GoogleDocstring(list(lines), app.config, app, "function", name, thing, options).lines()
        app.env.temp_data[f"text of {name}"] = text
        lines.clear()


def _readable_signature(
    app: Any, what: str, name: str, thing: Any, options: Any, arguments: str | None, result: str | None
) -> tuple[str | None, str | None]:
    """Write ``...`` for a default that has no literal, such as ``<factory>``: Sphinx could not parse it."""
    return (re.sub(r"<[^<>]*>", "...", arguments) if arguments else arguments), result


def _give_attribute_back(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = app.env.temp_data.pop(f"text of {name}", lines)


def setup(app: Any) -> dict[str, bool]:
    """Add the directive ``package`` and the handlers above."""
    from docutils import nodes
    from sphinx.util.docutils import SphinxDirective

    class PackagePage(SphinxDirective):
        """``.. package-page:: layers``: all names of the package `ganblocks.layers`."""

        required_arguments = 1

        def run(self) -> list[nodes.Node]:
            for module in modules_of(importlib.import_module(f"ganblocks.{self.arguments[0]}")):
                self.env.note_dependency(inspect.getfile(module))
            return self.parse_text_to_nodes(page(self.arguments[0]), allow_section_headings=True)

    from sphinx.domains.python._object import PyObject

    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.rolename = ""  # an attribute in a list of attributes is no link to whatever else has its name
    _give_types()
    app.connect("autodoc-process-signature", _readable_signature)
    app.connect("autodoc-process-docstring", _read_attribute, priority=400)
    app.connect("autodoc-process-docstring", _give_attribute_back, priority=600)  # napoleon comes at 500
    app.add_directive("package-page", PackagePage)
    app.connect("env-updated", _add_further_names)
    app.connect("missing-reference", _resolve)
    app.connect("autodoc-skip-member", _skip_member)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
