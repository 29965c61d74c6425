"""The tree keeps its floors, its libraries their homes, and the start stays light. Each rule is shown able to fail."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import floors
import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {
    "torch", "numpy", "scipy", "sklearn", "pandas", "xarray", "h5py", "h5netcdf", "safetensors", "soundfile", "soxr",
    "praatio", "kaldialign", "plotly", "matplotlib", "jinja2", "pydantic", "typer", "rich", "espeakng_loader",
}  # fmt: skip


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    return floors.read_package(ROOT / "otoscope")


def project_texts() -> dict[str, str]:
    """Every text file of the project."""
    contents = {name: path.read_bytes() for name, path in floors.project_files(ROOT).items()}
    return {name: content.decode(errors="replace") for name, content in contents.items() if b"\0" not in content}


@pytest.mark.parametrize("check", floors.CHECKS, ids=lambda check: check.__name__)
def test_the_tree_keeps_the_rule(check, sources):
    breaches = check(sources)
    assert not breaches, "\n".join(["", *breaches])


def test_every_floor_was_read(sources):
    """An empty mapping would keep every rule."""
    assert {floors.floor(name) for name in sources} == set(floors.MAY_SEE)


def test_no_file_names_a_place_on_one_machine():
    texts = project_texts()
    assert {"pyproject.toml", "Makefile", "otoscope/base.py", "tests/test_floors.py"} <= set(texts)
    breaches = floors.machine_paths(texts)
    assert not breaches, "\n".join(["", *breaches])


# A small tree that keeps every rule; each breach below is this tree with one thing changed.
SOUND = {
    "otoscope.__init__": (
        "import importlib\n"
        "HOMES = {'tap': 'otoscope.probe.taps', 'load': ('otoscope.learn.checkpoint', 'load_run')}\n"
        "def __getattr__(name):\n    return importlib.import_module('otoscope.probe.taps')\n"
    ),
    "otoscope.__main__": "import typer\nfrom otoscope.base import BadInput\n",
    "otoscope.base": "import json\nclass BadInput(Exception): pass\n",
    "otoscope.hear.__init__": "",
    "otoscope.hear.audio": "import soundfile\nfrom otoscope.base import BadInput\n",
    "otoscope.hear.speak": "def speak():\n    import espeakng_loader\n",
    "otoscope.learn.__init__": "",
    "otoscope.learn.checkpoint": "from otoscope.hear import audio\ndef load_run(): audio.open()\n",
    "otoscope.probe.__init__": "",
    "otoscope.probe.taps": "import torch\nimport otoscope.base\ndef tap(net): net.eval()\n",
    "otoscope.reduce.__init__": "",
    "otoscope.reduce.moments": "import numpy as np\ndef load(file): return np.load(file, allow_pickle=False)\n",
    "otoscope.show.__init__": "",
    "otoscope.show.figures": "import plotly.graph_objects as go\nfrom otoscope.reduce.moments import load\n",
    "otoscope.study.__init__": "",
    "otoscope.commands.__init__": "",
    "otoscope.commands.corpus": "import typer\n",
    "otoscope.study.demo": "from otoscope.hear import audio\nfrom otoscope.show import figures\n",
}

BREACHES = [
    # (rule, module, its source, words of the message)
    (floors.check_order, "otoscope.hear.audio", "from otoscope.learn import checkpoint", "hear may not import learn"),
    (floors.check_order, "otoscope.base", "import otoscope.hear.audio", "base may not import hear"),
    (floors.check_order, "otoscope.study.demo", "import otoscope.commands.corpus", "study may not import commands"),
    (floors.check_homes, "otoscope.study.demo", "import typer", "typer lives in"),
    (floors.check_order, "otoscope.probe.taps", "from otoscope.hear import audio", "probe may not import hear"),
    (floors.check_order, "otoscope.probe.taps", "import otoscope.reduce.moments", "probe may not import reduce"),
    (floors.check_order, "otoscope.reduce.moments", "from otoscope.learn.checkpoint import x", "may not import learn"),
    (floors.check_order, "otoscope.show.figures", "from otoscope.probe.taps import tap", "show may not import probe"),
    (floors.check_order, "otoscope.learn.checkpoint", "from otoscope import load", "learn may not import __init__"),
    (floors.check_order, "otoscope.study.demo", "import otoscope.__main__", "study may not import __main__"),
    (floors.check_order, "otoscope.hear.audio", "from . import speak", "relative import"),
    (floors.check_order, "otoscope.attic.old", "", "there is no floor 'attic'"),
    (floors.check_cycles, "otoscope.hear.speak", "from otoscope.hear.speak import a", "otoscope.hear.speak <-"),
    (floors.check_no_hidden_imports, "otoscope.study.demo", "def f():\n    import otoscope.base", "inside function"),
    (floors.check_no_hidden_imports, "otoscope.study.demo", "class A:\n    import otoscope.base", "inside class"),
    (
        floors.check_no_hidden_imports,
        "otoscope.study.demo",
        "import typing\nif typing.TYPE_CHECKING:\n    from otoscope.base import A",
        "inside TYPE_CHECKING",
    ),
    (
        floors.check_no_hidden_imports,
        "otoscope.study.demo",
        "from importlib import import_module as get\nget(f'otoscope.{x}')",
        "inside import_module",
    ),
    (floors.check_homes, "otoscope.study.demo", "def f():\n    import matplotlib.pyplot", "matplotlib lives in"),
    (floors.check_homes, "otoscope.learn.checkpoint", "import plotly", "plotly lives in otoscope.show"),
    (floors.check_homes, "otoscope.show.figures", "from torch import nn", "torch is kept out of otoscope.show"),
    (floors.check_homes, "otoscope.learn.checkpoint", "import soundfile", "soundfile lives in otoscope.hear"),
    (floors.check_homes, "otoscope.study.demo", "from rich.progress import Progress", "rich lives in"),
    (floors.check_homes, "otoscope.study.demo", "from espeakng_loader import get", "one module should hold it"),
    (
        floors.check_homes,
        "otoscope.study.demo",
        "import importlib\nimportlib.import_module('espeakng_loader')",
        "one module should hold it",
    ),
    (floors.check_layout, "otoscope.hear.__init__", "from otoscope.hear.audio import load", "__init__.py is empty"),
    (floors.check_layout, "otoscope.hear.audio", "\n" * 401, "401 lines; at most 400"),
    (floors.check_layout, "otoscope.hear.utils", "", "'utils' names no subject"),
    (floors.check_layout, "otoscope.show._common.marks", "", "'_common' names no subject"),
    (floors.check_no_pickle, "otoscope.learn.checkpoint", "import pickle", "imports pickle"),
    (floors.check_no_pickle, "otoscope.learn.checkpoint", "import torch as t\nt.load('a')", "calls torch.load"),
    (floors.check_no_pickle, "otoscope.learn.checkpoint", "from torch import load\nload('a')", "calls torch.load"),
    (floors.check_no_pickle, "otoscope.reduce.moments", "import numpy\nnumpy.load(f, None, True)", "numpy.load"),
    (floors.check_no_pickle, "otoscope.reduce.moments", "import numpy\nnumpy.load(f, allow_pickle=x)", "numpy.load"),
    (floors.check_no_pickle, "otoscope.hear.audio", "import yaml\nyaml.load(f)", "calls yaml.load"),
    (floors.check_no_pickle, "otoscope.hear.audio", "x = eval('1')", "calls eval"),
    (floors.check_no_pickle, "otoscope.hear.audio", "exec('1')", "calls exec"),
    (floors.check_lazy_targets, "otoscope.__init__", "A = {'tap': 'otoscope.probe.tips'}", "there is no such module"),
    (floors.check_lazy_targets, "otoscope.__init__", "A = {'tip': 'otoscope.probe.taps'}", "and is not there"),
    (floors.check_lazy_targets, "otoscope.__init__", "A = {'otoscope.base': ('Missing',)}", "and is not there"),
    (floors.check_lazy_targets, "otoscope.__main__", "A: dict = {'a': 'otoscope.base:Bad'}", "and is not there"),
]


@pytest.mark.parametrize("check", floors.CHECKS, ids=lambda check: check.__name__)
def test_a_sound_tree_passes(check):
    assert check(SOUND) == []


@pytest.mark.parametrize(("check", "module", "source", "words"), BREACHES)
def test_a_breach_is_found(check, module, source, words):
    (breach,) = check(SOUND | {module: source})
    assert words in breach


def test_every_rule_has_a_breach():
    assert {check for check, *_ in BREACHES} == set(floors.CHECKS)


def test_a_cycle_of_three_is_found_and_named():
    (breach,) = floors.check_cycles(
        {
            "otoscope.hear.a": "from otoscope.hear import b",
            "otoscope.hear.b": "from otoscope.hear.c import x",
            "otoscope.hear.c": "def f():\n    import otoscope.hear.a",
        }
    )
    assert all(name in breach for name in ("otoscope.hear.a", "otoscope.hear.b", "otoscope.hear.c"))


def test_the_files_are_found_without_git_too(monkeypatch):
    with_git = set(floors.project_files(ROOT))
    monkeypatch.setattr(floors.shutil, "which", lambda name: None)
    without = set(floors.project_files(ROOT))
    wanted = {"pyproject.toml", "otoscope/base.py", "tests/test_floors.py", ".ci/run"}
    assert wanted <= with_git
    assert wanted <= without
    assert not any("__pycache__" in name for name in with_git | without)


@pytest.mark.parametrize("folder", ["home", "root", "Users"])
def test_a_path_of_one_machine_is_found(folder):
    path = "/".join(["", folder, "ann", "speech"])
    assert floors.machine_paths({"a.md": f"first\nread {path}/x.flac"}) == [f"a.md:2: read {path}/x.flac"]
    assert floors.machine_paths({"a.md": f"https://example.org{path} and data{path} and /usr/bin/env"}) == []


def loaded_by(code: str) -> set[str]:
    """The top-level names of the modules that are loaded once `code` has run in a fresh Python."""
    report = "import json, sys; print('\\n' + json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_loads_nothing_heavy():
    loaded = loaded_by("import otoscope")
    assert "otoscope" in loaded
    assert not loaded & HEAVY


def test_the_watch_for_heavy_modules_sees_one():
    assert loaded_by("import numpy") & HEAVY == {"numpy"}


def test_every_public_name_resolves():
    """In a fresh Python, so that no other test has loaded it before."""
    code = "import otoscope; names = otoscope.__all__; [getattr(otoscope, name) for name in names]; print(len(names))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0


def test_every_public_name_is_in_a_table(sources):
    """The names are looked up through tables that `check_lazy_targets` can read."""
    code = "import json, otoscope; print(json.dumps(list(otoscope.__all__)))"
    public = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    source = sources["otoscope.__init__"]
    assert set(public) <= set(floors.lazy_targets(source)) | floors.bound_names(source)


def test_an_unknown_public_name_is_an_attribute_error():
    code = "import otoscope\ntry:\n    otoscope.no_such_name\nexcept AttributeError as error:\n    print(error)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "no_such_name" in done.stdout


def test_help_loads_no_torch():
    code = (
        "import runpy, sys\n"
        "sys.argv = ['otoscope', '--help']\n"
        "try:\n    runpy.run_module('otoscope', run_name='__main__')\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "else:\n    raise AssertionError('--help should end the program')"
    )
    assert not loaded_by(code) & {"torch", "numpy", "scipy", "sklearn", "xarray", "plotly", "matplotlib"}


def test_help_is_quick():
    """Processor time, not time on the clock: a busy machine should not fail this."""
    command = [str(Path(sys.executable).with_name("otoscope")), "--help"]
    spent_s = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, done.stderr
        assert "demo" in done.stdout
        spent_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert statistics.median(spent_s) < 0.5, spent_s
