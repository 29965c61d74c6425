"""The rules of the tree as pure functions: sources in, one sentence for each breach out.

`sources` maps a module's name to its text. A folder's `__init__.py` is named `otoscope.hear.__init__`, so that a name
is always that of one file.
"""

from __future__ import annotations

import ast
import dataclasses
import graphlib
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

Sources = Mapping[str, str]

# Which floors a floor may import, besides itself. The two wings, probe and reduce, know neither hear nor learn.
MAY_SEE: dict[str, tuple[str, ...]] = {
    "base": (),
    "hear": ("base",),
    "learn": ("base", "hear"),
    "probe": ("base",),
    "reduce": ("base",),
    "show": ("base", "reduce"),
    "study": ("base", "hear", "learn", "probe", "reduce", "show"),
    "__init__": ("base", "hear", "learn", "probe", "reduce", "show", "study"),
    "commands": ("base", "hear", "learn", "probe", "reduce", "show", "study", "__init__"),
    "__main__": ("base", "hear", "learn", "probe", "reduce", "show", "study", "__init__", "commands"),
}

HOMES: dict[str, tuple[str, ...]] = {
    "matplotlib": ("otoscope.show.",),
    "plotly": ("otoscope.show.",),
    "soundfile": ("otoscope.hear.",),
    "typer": ("otoscope.__main__", "otoscope.commands.", "otoscope.study.console"),
    "rich": ("otoscope.__main__", "otoscope.study.console"),
}
KEPT_OUT: dict[str, str] = {"torch": "otoscope.show."}
ONE_MODULE_EACH = ("transformers", "lhotse", "distributed", "espeakng_loader", "flashlight")

# The top `__init__` and the command line look names up when they are asked for, so that both start light.
LAZY = ("otoscope.__init__", "otoscope.__main__")

IMPORTERS = ("importlib.import_module", "__import__")

LONGEST_LINES = 400
EMPTY_NAMES = {"util", "utils", "helper", "helpers", "common", "misc"}

PICKLING_MODULES = {"pickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
UNSAFE_CALLS = {
    "torch.load",
    "torch.save",
    "torch.hub.load",
    "pandas.read_pickle",
    "yaml.load",
    "yaml.load_all",
    "yaml.full_load",
    "yaml.unsafe_load",
    "eval",
    "exec",
    "builtins.eval",
    "builtins.exec",
}

MACHINE_PATH = re.compile(r"(?<![\w.:/~-])(?:/(?:home|root|Users|work|shared|mnt|media)/\w|[A-Z]:\\Users\\)")


@dataclasses.dataclass(frozen=True)
class Import:
    """One name brought into a module: `where` is "module", "function", "class", "TYPE_CHECKING" or "import_module"."""

    target: str
    line: int
    where: str


def read_package(folder: Path) -> dict[str, str]:
    """Every module under `folder`, the package's own folder."""
    return {
        ".".join(path.relative_to(folder.parent).with_suffix("").parts): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*.py"))
    }


def project_files(root: Path) -> dict[str, Path]:
    """Path from the root → file: those that git tracks or would track; the known folders where git is absent."""
    listed = (
        subprocess.run(
            ["git", "-c", f"safe.directory={root}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root,
            capture_output=True,
            check=False,
        )
        if shutil.which("git")
        else None
    )
    if listed is not None and listed.returncode == 0:
        paths = [root / name for name in listed.stdout.decode().split("\0") if name]
    else:
        folders = ("otoscope", "tests", "docs", "recipes", "benchmarks", ".ci")
        paths = [path for name in folders for path in (root / name).rglob("*")]
        paths = [path for path in [*root.glob("*"), *paths] if not {"_build", "__pycache__"} & set(path.parts)]
    return {path.relative_to(root).as_posix(): path for path in paths if path.is_file()}


def aliases(tree: ast.AST) -> dict[str, str]:
    """What each imported name stands for: `import numpy as np` gives `{"np": "numpy"}`."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                found[name.asname or name.name.partition(".")[0]] = (
                    name.name if name.asname else name.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for name in node.names:
                found[name.asname or name.name] = f"{node.module}.{name.name}"
    return found


def dotted(node: ast.expr, known: Mapping[str, str]) -> str | None:
    """The full name of `a.b.c` with its first part translated; None for anything but a chain of names."""
    if isinstance(node, ast.Name):
        return known.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        before = dotted(node.value, known)
        return before and f"{before}.{node.attr}"
    return None


def text_start(node: ast.expr) -> str:
    """The constant text an expression starts with, or none of it."""
    if isinstance(node, ast.JoinedStr) and node.values:
        return text_start(node.values[0])
    if isinstance(node, ast.BinOp):
        return text_start(node.left)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def imports(source: str) -> list[Import]:
    """Every import of a module, wherever it stands, and every `import_module` of a name that can be read."""
    tree = ast.parse(source)
    known = aliases(tree)

    def walk(node: ast.AST, where: str) -> Iterator[Import]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            where = "function"
        elif isinstance(node, ast.ClassDef) and where == "module":
            where = "class"
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            where = "TYPE_CHECKING"
        if isinstance(node, ast.Import):
            yield from (Import(name.name, node.lineno, where) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from (Import(f"{base}.{name.name}", node.lineno, where) for name in node.names)
        elif isinstance(node, ast.Call) and node.args and dotted(node.func, known) in IMPORTERS:
            yield Import(text_start(node.args[0]), node.lineno, "import_module")
        for child in ast.iter_child_nodes(node):
            yield from walk(child, where)

    return list(walk(tree, "module"))


def ours(target: str) -> bool:
    """Whether a dotted name is inside this package."""
    return target.partition(".")[0] == "otoscope"


def resolve(target: str, sources: Sources) -> str:
    """The module that holds `target`; `otoscope.hear.audio.load` is in `otoscope.hear.audio`."""
    parts = target.split(".")
    for length in range(len(parts), 0, -1):
        for name in (".".join(parts[:length]), ".".join([*parts[:length], "__init__"])):
            if name in sources:
                return name
    return target


def floor(module: str) -> str:
    """The floor of a module: the name after `otoscope.`"""
    return module.split(".")[1] if "." in module else module


def check_order(sources: Sources) -> list[str]:
    """Each floor imports only the floors under it."""
    breaches = []
    for module, source in sources.items():
        if floor(module) not in MAY_SEE:
            breaches.append(f"{module}: there is no floor '{floor(module)}'; give it a place in MAY_SEE")
            continue
        for found in imports(source):
            if found.target.startswith("."):
                breaches.append(f"{module}:{found.line}: write 'from otoscope...' in place of a relative import")
            elif ours(found.target):
                below = floor(resolve(found.target, sources))
                if below != floor(module) and below not in MAY_SEE[floor(module)]:
                    breaches.append(f"{module}:{found.line}: {floor(module)} may not import {below} ({found.target})")
    return breaches


def check_cycles(sources: Sources) -> list[str]:
    """No module imports itself by way of others."""
    graph = {
        module: {resolve(i.target, sources) for i in imports(source) if ours(i.target) and i.where != "import_module"}
        for module, source in sources.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return ["cycle: " + " <- ".join(error.args[1])]
    return []


def check_no_hidden_imports(sources: Sources) -> list[str]:
    """The package imports itself at the top of its modules only."""
    return [
        f"{module}:{found.line}: import of {found.target} inside {found.where}"
        for module, source in sources.items()
        for found in imports(source)
        if ours(found.target) and found.where != "module" and not (found.where == "import_module" and module in LAZY)
    ]


def check_homes(sources: Sources) -> list[str]:
    """Each of the named libraries is imported only where it lives."""
    breaches = []
    users: dict[str, set[str]] = {library: set() for library in ONE_MODULE_EACH}
    for module, source in sources.items():
        for found in imports(source):
            library = found.target.partition(".")[0]
            if library in HOMES and not module.startswith(HOMES[library]):
                breaches.append(f"{module}:{found.line}: {library} lives in {' and '.join(HOMES[library])}")
            if library in KEPT_OUT and module.startswith(KEPT_OUT[library]):
                breaches.append(f"{module}:{found.line}: {library} is kept out of {KEPT_OUT[library]}")
            if library in users:
                users[library].add(module)
    for library, modules in users.items():
        if len(modules) > 1:
            breaches.append(f"{library} is imported by {' and '.join(sorted(modules))}; one module should hold it")
    return breaches


def check_layout(sources: Sources) -> list[str]:
    """Folder `__init__` files are empty, modules are short and named for a subject."""
    breaches = []
    for module, source in sources.items():
        if module.endswith(".__init__") and module != "otoscope.__init__" and source.strip():
            breaches.append(f"{module}: a folder's __init__.py is empty")
        if len(source.splitlines()) > LONGEST_LINES:
            breaches.append(f"{module}: {len(source.splitlines())} lines; at most {LONGEST_LINES}")
        breaches += [
            f"{module}: '{part}' names no subject" for part in module.split(".") if part.strip("_") in EMPTY_NAMES
        ]
    return breaches


def check_no_pickle(sources: Sources) -> list[str]:
    """Nothing is read or written that could run code on reading."""
    breaches = []
    for module, source in sources.items():
        tree = ast.parse(source)
        known = aliases(tree)
        breaches += [
            f"{module}:{found.line}: imports {found.target}"
            for found in imports(source)
            if found.target.partition(".")[0] in PICKLING_MODULES
        ]
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = dotted(node.func, known) or ""
            if name in UNSAFE_CALLS or name.endswith(".to_pickle") or (name == "numpy.load" and _may_pickle(node)):
                breaches.append(f"{module}:{node.lineno}: calls {name}, which can run code from a file")
    return breaches


def _may_pickle(call: ast.Call) -> bool:
    """Whether a call of `numpy.load` may turn `allow_pickle` on (its third argument, or a keyword)."""
    return len(call.args) > 2 or any(
        keyword.arg in (None, "allow_pickle")
        and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
        for keyword in call.keywords
    )


def lazy_targets(source: str) -> dict[str, str]:
    """Public name → `module:attribute`, from the tables of a module that looks names up when asked.

    A table is a dict written out at the top of the module, in one of the forms `{"load": "otoscope.a.b"}`,
    `{"load": "otoscope.a.b:open"}`, `{"load": ("otoscope.a.b", "open")}` and `{"otoscope.a.b": ("load", "save")}`.
    """
    found: dict[str, str] = {}
    for node in ast.parse(source).body:
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        if not isinstance(value, ast.Dict):
            continue
        try:
            table = ast.literal_eval(value)
        except ValueError:
            continue
        for key, entry in table.items():
            if isinstance(key, str) and ours(key) and isinstance(entry, tuple | list):
                found |= {name: f"{key}:{name}" for name in entry}
            elif isinstance(entry, str) and ours(entry):
                found[key] = entry if ":" in entry else f"{entry}:{key}"
            elif isinstance(entry, tuple | list) and len(entry) == 2 and ours(str(entry[0])):
                found[key] = f"{entry[0]}:{entry[1]}"
    return found


def bound_names(source: str) -> set[str]:
    """The names a module binds at its top level, in `if` and `try` blocks too."""
    names: set[str] = set()
    left: list[ast.AST] = [ast.parse(source)]
    while left:
        node = left.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name)
        left += ast.iter_child_nodes(node)
    return names


def check_lazy_targets(sources: Sources) -> list[str]:
    """Every name that is looked up when asked for exists."""
    breaches = []
    for module in LAZY:
        for name, target in lazy_targets(sources.get(module, "")).items():
            home, _, attribute = target.partition(":")
            if home not in sources:
                breaches.append(f"{module}: '{name}' should be in {home}, and there is no such module")
            elif attribute not in bound_names(sources[home]):
                breaches.append(f"{module}: '{name}' should be {attribute} in {home}, and is not there")
    return breaches


def machine_paths(texts: Mapping[str, str]) -> list[str]:
    """Lines that name a folder of one machine or one person."""
    return [
        f"{name}:{number}: {line.strip()[:80]}"
        for name, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]


CHECKS: tuple[Callable[[Sources], Iterable[str]], ...] = (
    check_order,
    check_cycles,
    check_no_hidden_imports,
    check_homes,
    check_layout,
    check_no_pickle,
    check_lazy_targets,
)
