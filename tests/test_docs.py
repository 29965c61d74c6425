"""The pages tell the truth: their Python runs, their links lead somewhere, their commands and options exist."""

from __future__ import annotations

import contextlib
import doctest
import io
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.parse import unquote

import floors
import pytest
import typer
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parent.parent
FILES = floors.project_files(ROOT)
PAGES = sorted(
    name
    for name in FILES
    if name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
    or (name.endswith(".md") and name.startswith(("docs/", "recipes/", "benchmarks/")))
)
RUN = ("python", "pycon")
COMMANDS = {"console": "$ ", "sh": "", "bash": ""}


class Fence(NamedTuple):
    """A fenced block: what stands after the backticks, the page's line the block's text starts on, the text."""

    info: str
    line: int
    text: str


def tokens(page: str) -> Iterator[Token]:
    for token in MarkdownIt("commonmark").enable("table").parse(page):
        yield token
        yield from token.children or []


def fences(page: str) -> list[Fence]:
    return [Fence(t.info.strip(), t.map[0] + 2, t.content) for t in tokens(page) if t.type == "fence" and t.map]


def python_breaches(page: str) -> list[str]:
    """Blocks that look like Python and would not be run."""
    breaches = []
    for fence in fences(page):
        if fence.info in RUN or not re.search(r"\bpy(thon3?|con)?\b", fence.info, re.IGNORECASE):
            continue
        breaches.append(f"line {fence.line}: '{fence.info}' is not run; write 'python', or 'text' if it is no example")
    return breaches


def run_python(page: str, name: str) -> None:
    """Run a page's Python from top to bottom, as a reader would: names made in one block are known in the next.

    What a block prints must be what the page shows, where a `text` block follows it.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    for fence, after in itertools.pairwise([*fences(page), None]):
        if fence is None or fence.info not in RUN:
            continue
        if fence.info == "pycon":
            test = doctest.DocTestParser().get_doctest(fence.text, names, name, name, fence.line - 1)
            said: list[str] = []
            doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append, clear_globs=False)
            assert not said, "".join(said)
            names = test.globs
            continue
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * (fence.line - 1) + fence.text, name, "exec"), names)
        if printed.getvalue() and after and after.info == "text":
            assert printed.getvalue() == after.text, f"{name}, line {after.line}: the example prints something else"


def links(page: str) -> list[str]:
    """Where a page's links and pictures lead, those in HTML too."""
    found = []
    for token in tokens(page):
        if token.type in ("link_open", "image"):
            found.append(str(token.attrGet("href") or token.attrGet("src")))
        elif token.type in ("html_block", "html_inline"):
            found += re.findall(r"""(?:href|src|srcset)=["']([^"']+)["']""", token.content)
    return found


def anchors(page: str) -> set[str]:
    """The names of a page's headings in links, as GitHub and MyST make them."""
    parts = list(tokens(page))
    titles = [after.content for token, after in itertools.pairwise(parts) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).replace(" ", "-") for title in titles}


def link_breaches(name: str, pages: dict[str, str], files: set[str]) -> list[str]:
    """Links of the page `name` to a file that is not in the project, or to a heading that is not in a page."""
    breaches = []
    for link in links(pages[name]):
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        steps: list[str] = []
        for step in [*name.split("/")[:-1], *path.split("/")] if path else name.split("/"):
            if step == ".." and steps:
                steps.pop()
            elif step not in ("", "."):
                steps.append(step)
        target = "/".join(steps)
        if target not in files and not any(file.startswith(target + "/") for file in files):
            breaches.append(f"{name}: the link {link} leads to {target}, which is not in the project")
        elif anchor and target in pages and anchor not in anchors(pages[target]):
            breaches.append(f"{name}: the link {link} leads to a heading that {target} does not have")
    return breaches


def command_lines(page: str) -> list[list[str]]:
    """The commands in a page's `console` and `sh` blocks, split into words."""
    found = []
    for fence in fences(page):
        if fence.info not in COMMANDS:
            continue
        prompt = COMMANDS[fence.info]
        for line in fence.text.replace("\\\n", " ").splitlines():
            if not line.startswith(prompt):
                continue
            words = shlex.shlex(line.removeprefix(prompt), posix=True, punctuation_chars=True)
            words.whitespace_split = True
            command: list[str] = []
            for word in [*words, ";"]:
                if word.strip("();<>|&") == "":
                    found += [command] if command else []
                    command = []
                else:
                    command.append(word)
    return found


def option_breaches(words: list[str], command: Any) -> list[str]:
    """What a command line names that `command` (a click command or group) does not have."""
    spelled, words = " ".join(words), words[1:]
    given: list[str] = []
    while words:
        word = words.pop(0)
        options = {name: each for each in command.params for name in [*each.opts, *each.secondary_opts]}
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            if not hasattr(command, "commands"):
                given.append(word)
            elif word in command.commands:
                command = command.commands[word]
            else:
                return [f"'{spelled}': there is no command '{word}'"]
        elif name not in options and name != "--help":
            return [f"'{spelled}': there is no option {name}"]
        elif name in options and not options[name].is_flag and not options[name].count:
            values = [value] if equals else words[: options[name].nargs]
            words = words if equals else words[options[name].nargs :]
            if len(values) < options[name].nargs:
                return [f"'{spelled}': {name} wants a value"]
    if "--help" in spelled:
        return []
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    fewest = sum(argument.required for argument in arguments)
    most = float("inf") if any(argument.nargs < 0 for argument in arguments) else len(arguments)
    if not fewest <= len(given) <= most:
        return [f"'{spelled}': {len(given)} arguments, wanted {fewest} to {most}"]
    return []


def command_breaches(page: str, command: Any, targets: set[str]) -> list[str]:
    """What a page's commands name that neither the command line nor the Makefile has."""
    breaches = []
    for words in command_lines(page):
        if re.fullmatch(r"(.*/)?python3?", words[0]) and words[1:3] == ["-m", "otoscope"]:
            words = words[2:]
        if words[0].rpartition("/")[2] == "otoscope":
            breaches += option_breaches(words, command)
        elif words[0] == "make":
            wanted = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
            breaches += [f"there is no 'make {word}'" for word in wanted if word not in targets]
    return breaches


def make_targets(makefile: str) -> set[str]:
    return set(re.findall(r"^([a-z][a-z0-9-]*):(?!=)", makefile, re.MULTILINE))


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    return {name: FILES[name].read_text(encoding="utf-8") for name in PAGES}


@pytest.mark.parametrize("name", PAGES)
def test_every_python_example_runs(name, texts, tmp_path, monkeypatch):
    assert not python_breaches(texts[name])
    monkeypatch.chdir(tmp_path)
    run_python(texts[name], name)


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name, texts):
    breaches = link_breaches(name, texts, set(FILES))
    assert not breaches, "\n".join(["", *breaches])


@pytest.mark.parametrize("name", PAGES)
def test_every_command_exists(name, texts):
    from otoscope.__main__ import app

    breaches = command_breaches(texts[name], typer.main.get_command(app), make_targets(FILES["Makefile"].read_text()))
    assert not breaches, "\n".join(["", *breaches])


def test_the_pages_were_found(texts):
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/index.md"} <= set(texts)


# What follows shows that each of these tests can fail.


def test_a_failing_example_is_found_at_its_line():
    page = "# A\n\n```python\na = 1\n```\n\n```python\nb = a\nassert b == 2\n```\n"
    with pytest.raises(AssertionError) as caught:
        run_python(page, "page.md")
    assert (Path(caught.traceback[-1].path).name, caught.traceback[-1].lineno + 1) == ("page.md", 9)


def test_a_wrong_answer_in_a_session_is_found():
    run_python("```python\na = 2\n```\n```pycon\n>>> a + 1\n3\n```\n```python\nassert a == 2\n```\n", "page.md")
    with pytest.raises(AssertionError, match=r"Expected:\s+4\s+Got:\s+3"):
        run_python("```pycon\n>>> 1 + 2\n4\n```\n", "page.md")


def test_another_output_than_the_page_shows_is_found():
    run_python(
        "```python\nprint(3)\n```\nwhich gives\n```text\n3\n```\n```python\n4\n```\n```text\n5\n```\n", "page.md"
    )
    with pytest.raises(AssertionError, match="line 5: the example prints something else"):
        run_python("```python\nprint(3)\n```\n```text\n4\n```\n", "page.md")


@pytest.mark.parametrize("info", ["python notest", "py", "python3", "{code-block} python", "Python"])
def test_a_python_block_that_would_not_run_is_found(info):
    (breach,) = python_breaches(f"```{info}\n1 / 0\n```\n")
    assert breach.startswith("line 2")
    assert python_breaches("```python\n1\n```\n```text\npython\n```\n```\n1\n```\n") == []


def test_a_link_that_leads_nowhere_is_found():
    sound = "[a](docs/a.md) [b](docs/a.md#the-how--why) [e](https://e.org) [folder](docs) <img src='d.png'>"
    pages = {
        "README.md": sound + ' ![c](c.png) <img width="3" src="e.png"> [f](#top)',
        "docs/a.md": "# The *how* & why\n[up](../README.md) [out](../../x.md) [no](a.md#nothing)\n```\n[z](z)\n```",
    }
    files = {"README.md", "docs/a.md", "d.png"}
    found = link_breaches("README.md", pages, files) + link_breaches("docs/a.md", pages, files)
    assert [re.findall(r"the link (\S+)", breach)[0] for breach in found] == [
        "c.png",
        "e.png",
        "#top",
        "../../x.md",
        "a.md#nothing",
    ]


APP = typer.Typer()
CORPUS = typer.Typer()
APP.add_typer(CORPUS, name="corpus")


@APP.command()
def demo(out: str = "demo", seed: int = 1, strict: bool = False) -> None:
    """A command with options only."""


@APP.command()
def profile(run: str, by: Annotated[list[str] | None, typer.Option("--by", "-b")] = None) -> None:
    """A command with an argument."""


@CORPUS.command()
def validate(manifests: list[str]) -> None:
    """A command in a group, with any number of arguments."""


@pytest.mark.parametrize(
    "line",
    [
        "otoscope --help",
        "otoscope demo --out demo --seed=3 --strict",
        "OUT=x; otoscope demo --no-strict > log.txt",
        ".venv/bin/otoscope profile RUN -b phone --by word  # a remark",
        "python -m otoscope corpus validate a.jsonl b.jsonl && make test OUT=x",
        "otoscope profile --help",
        "otoscope demo \\\n  --out demo",
        "ls --nonsense",
    ],
)
def test_a_sound_command_passes(line):
    assert command_breaches(f"```sh\n{line}\n```\n", typer.main.get_command(APP), {"test"}) == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("otoscope dmeo", "no command 'dmeo'"),
        ("otoscope corpus speek", "no command 'speek'"),
        ("otoscope demo --outt x", "no option --outt"),
        ("otoscope demo --out", "--out wants a value"),
        ("otoscope demo extra", "1 arguments, wanted 0 to 0"),
        ("otoscope profile --by phone", "0 arguments, wanted 1 to 1"),
        ("cd x && otoscope profile RUN --phone", "no option --phone"),
        ("python -m otoscope corpus validate", "0 arguments, wanted 1 to inf"),
        ("make tset", "no 'make tset'"),
    ],
)
def test_a_wrong_command_is_found(line, words):
    (breach,) = command_breaches(f"```console\n$ {line}\nsaid --by it\n```\n", typer.main.get_command(APP), {"test"})
    assert words in breach


def test_the_makefile_has_its_targets():
    wanted = {"demo", "test", "test-quick", "test-all", "lint", "docs", "bench", "g2p", "clean", "help"}
    assert make_targets((ROOT / "Makefile").read_text()) == wanted
