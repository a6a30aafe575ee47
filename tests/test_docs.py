"""The documents say what is true: commands, flags, links, examples; and nothing of one machine."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from over_all import below, over_all
from typer import TyperException
from typer.main import get_command

from dsgcli.cli.app import build_app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")]
by_page = over_all(PAGES, below(ROOT))

KNOWN_HOSTS = {
    *("arxiv.org", "github.com", "keepachangelog.com", "semver.org", "no-color.org"),
    *("huggingface.co", "drive.google.com", "drive.usercontent.google.com", "docs.google.com"),
    *("download.pytorch.org", "pytorch.org", "storage.googleapis.com", "raw.githubusercontent.com"),
    *("distributed.dask.org", "jobqueue.dask.org", "kubernetes.dask.org"),
    *("creativecommons.org", "opensource.org", "www.apache.org", "www.w3.org"),
    *("git-lfs.github.com", "localhost", "127.0.0.1", "example.com", "example.org", "x.org"),
}
"""Hosts that files of the repository may name: sources of weights, and documents."""
RESERVED = (".example", ".invalid", ".test", ".localhost")
"""Endings that belong to nobody (RFC 2606)."""
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".json", ".txt", ".cfg", ".html", ""}


def tracked() -> list[Path]:
    """Text files under version control; those on disk where there is no git."""
    try:
        done = subprocess.run(
            ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        names = done.stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        names = [
            str(p.relative_to(ROOT)) for f in ("dsgcli", "docs") for p in (ROOT / f).rglob("*")
        ]
    paths = [ROOT / name for name in names]
    return [p for p in paths if p.is_file() and p.suffix in TEXT and p.stat().st_size < 2_000_000]


# ── the reference of the command line ────────────────────────────────────────────────────────────


def load(name):
    """A script of docs/, as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["cli", "recipes"])
def test_generated_pages_are_up_to_date(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    written = (DOCS / f"{name}.md").read_text("utf-8")
    assert written == load(f"make_{name}").page(), f"run: python docs/make_{name}.py"


def test_every_key_of_a_recipe_is_explained():
    from dsgcli.recipe import TABLES

    docstrings = load("make_recipes").docstrings
    bare = {
        f"{name}.{field.name}"
        for name, kind in TABLES.items()
        for field in fields(kind)
        if not docstrings(kind).get(field.name)
    }
    assert not bare


def every_command(command=None, words="dsg"):
    command = command or get_command(build_app())
    yield words, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from every_command(inner, f"{words} {name}")


@over_all([words for words, _ in every_command()], str)
def test_every_command_and_flag_is_in_the_reference(words):
    command = dict(every_command())[words]
    page = (DOCS / "cli.md").read_text("utf-8")
    section = page.partition(f"### {words}\n")[2].partition("\n### ")[0]
    flags = [opt for p in command.params if p.param_type_name == "option" for opt in p.opts]
    assert section
    assert not [flag for flag in flags if flag not in section]


def test_exit_codes_are_documented():
    from dsgcli import errors

    def codes(kind):
        return {kind.exit_code}.union(*(codes(sub) for sub in kind.__subclasses__()))

    page = (DOCS / "cli.md").read_text("utf-8")
    documented = {int(row) for row in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    assert documented == codes(errors.DsgError) | {0}


# ── pages ────────────────────────────────────────────────────────────────────────────────────────


def commands_in(page: Path) -> list[list[str]]:
    """`dsg ...` lines of code blocks and of inline code, as words."""
    text = page.read_text("utf-8")
    blocks = re.findall(r"^```(?:sh|bash|console|text)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    indented = re.findall(r"^    (.*)$", text, re.MULTILINE)
    lines = [line.strip() for block in blocks for line in block.splitlines()] + indented
    inline = re.findall(r"`(dsg [a-z][^`]*)`", text)
    found = [line.strip() for line in [*lines, *inline]]
    found = [re.split(r"\s+#|\s\s+|\s>|\s\|", f)[0] for f in found if re.match(r"dsg [a-z]", f)]
    return [shlex.split(line)[1:] for line in found]


def parse(words: list[str]) -> None:
    """What Typer thinks of a command line, without running it."""
    if words[:1] and Path(words[0]).suffix in (".jpg", ".png", ".mp4"):
        words = ["stylize", *words]  # `dsg photo.jpg`
    command, parent, name = get_command(build_app()), None, "dsg"
    while True:
        if parent is not None and not words:
            return  # a command that is only named, as in "`dsg train` has stages"
        context = command.make_context(name, list(words), parent=parent)
        if not hasattr(command, "commands"):
            return
        rest = [*context._protected_args, *context.args]
        name, command, words = command.resolve_command(context, rest)
        parent = context


@by_page
def test_commands_on_pages_parse(page):
    if page.name == "cli.md":
        pytest.skip("generated; its examples are tested with the commands")
    for words in commands_in(page):
        if words[-1:] == ["--help"] or any(re.fullmatch(r"[A-Z|\[\]]+\.*", w) for w in words):
            continue  # `dsg COMMAND --help`, `dsg models pull NAME`
        try:
            parse(words)
        except TyperException as error:
            pytest.fail(f"dsg {' '.join(words)}: {error.format_message()}")


@by_page
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_layers_of_the_page_are_those_of_the_test():
    from test_architecture import LAYERS

    page = (DOCS / "architecture.md").read_text("utf-8")
    table = page.partition("## Layers")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    units = [{u.strip("`/ ") for u in row.split(",")} for row in rows]
    flat = [unit for row in units for unit in row]
    assert set(flat) == {unit for layer in LAYERS for unit in layer} - {"__init__"}


def sentences() -> str:
    """Every text of the package, one a line; what is filled in is a NUL."""
    found = []
    for path in (ROOT / "dsgcli").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (v.value if isinstance(v, ast.Constant) else "\0" for v in node.values)
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def test_messages_quoted_in_troubleshooting_are_those_of_the_code():
    page, said = (DOCS / "troubleshooting.md").read_text("utf-8"), sentences()
    titles = re.findall(r"^\*\*(`.*?)\*\*", page, re.MULTILINE)
    quotes = [quote for title in titles for quote in re.findall(r"`(.+?)`", title)]
    assert len(quotes) > 8
    for quote in quotes:
        parts = [part.strip("'\" ") for part in re.split(r"\.\.\.|\bN(?:-1)?\b", quote)]
        missing = [part for part in parts if part not in said]
        assert not missing, quote


def test_errors_point_at_topics_of_help_that_are_there():
    from dsgcli import errors
    from dsgcli.cli.help_topics import topics

    def pages(kind):
        return {kind.see}.union(*(pages(sub) for sub in kind.__subclasses__())) - {""}

    assert len(pages(errors.DsgError)) > 2
    assert pages(errors.DsgError) <= set(topics())


def test_no_message_points_at_a_page_that_an_installed_dsg_does_not_have():
    """Docstrings may."""
    bad = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.value}"
        for path in sorted((ROOT / "dsgcli").rglob("*.py"))
        for tree in [ast.parse(path.read_text("utf-8"))]
        for docs in [{n.value for n in ast.walk(tree) if isinstance(n, ast.Expr)}]
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docs
        if re.search(r"\bdocs/|[a-z-]\.md\b", node.value)
        if path.name != "help_topics.py"
    ]
    assert not bad, "\n".join(bad)


def test_help_of_a_topic_is_the_section_as_plain_text():
    from command import dsg

    shown = dsg("help", "no-face-found").stdout
    assert shown.startswith("No face found")
    assert "](" not in shown and "```" not in shown
    assert dsg("help", "no", "face", "found").stdout == shown
    assert "no-face-detector" in dsg("help").stdout
    assert "--style" in dsg("help", "stylize").stdout


# ── the site ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("material", reason="make docs installs what the site needs")
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "-q", "-d", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_the_site_builds_strictly_and_has_every_page(site):
    built = {path.relative_to(site).with_suffix(".md").as_posix() for path in site.rglob("*.html")}
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert built - {"404.md"} == pages


@pytest.mark.slow
def test_the_site_fetches_nothing(site):
    """No fonts, scripts or pictures from elsewhere: it is read offline, and tells nobody."""
    for path in site.rglob("*.html"):
        html = path.read_text("utf-8")
        fetched = re.findall(r"<(?:script|img|link)\b[^>]*?(?:src|href)=\"?(https?:[^\" >]+)", html)
        assert not [url for url in fetched if "canonical" not in url], path.name


def test_pictures_of_pages_are_there():
    for page in PAGES:
        for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text("utf-8")):
            assert "://" not in target and (page.parent / target).is_file(), target


def test_places_of_pictures_are_read_as_such():
    """A comment that is misspelt would stay invisible for ever."""
    place = load("site_hooks").PLACE
    for page in DOCS.rglob("*.md"):
        text = page.read_text("utf-8")
        assert len(place.findall(text)) == text.count("<!-- picture"), page.name


def test_every_place_of_a_picture_has_somebody_who_draws_it():
    pictures = load("make_pictures")
    for page, target in pictures.places():
        name = Path(target).stem
        assert name in pictures.STYLES or hasattr(pictures.Painter, name), page.name


def test_drawn_pictures_take_their_places(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A\n\n<!-- picture: a.png | Seen -->\n\n<!-- picture: b.png | Not -->\n")
    (tmp_path / "a.png").touch()
    load("make_pictures").show(page)
    assert page.read_text() == "# A\n\n![Seen](a.png)\n\n<!-- picture: b.png | Not -->\n"


# ── nothing of one machine ───────────────────────────────────────────────────────────────────────

PACKAGE_HOSTS = re.compile(
    "|".join(["pypi" + r"\.org", "python" + "hosted", "anaconda" + r"\.(org|com)", "org/" + "whl"])
)
"""A host of packages changes, and is everyone's own choice: pages that are kept up say which."""
MACHINE_PATHS = re.compile("|".join(["/" + "work/", "/" + "root/", "/" + "tmp/", "/home/[a-z]"]))


@over_all(tracked(), below(ROOT))
def test_no_machine_is_named(path):
    text = path.read_text("utf-8")
    assert not MACHINE_PATHS.search(text)
    assert not PACKAGE_HOSTS.search(text)
    hosts = set(re.findall(r"https?://([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)", text))
    assert not {host for host in hosts - KNOWN_HOSTS if not host.endswith(RESERVED)}


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"])
def test_a_project_has_these(name):
    assert len((ROOT / name).read_text("utf-8")) > 500


def test_the_changelog_has_what_is_unreleased():
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert "## [Unreleased]" in text


def test_every_known_bug_of_the_original_has_its_row():
    page = (DOCS / "differences.md").read_text("utf-8")
    rows = [int(n) for n in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)]
    assert rows == list(range(1, 24))


# ── plain English ────────────────────────────────────────────────────────────────────────────────

TURNS = {
    "a person without a name": r"\b(some|any|no)body\b|\bwhoever\b|\bwhomever\b",
    "a private idiom": r"\bat hand\b|\bin the making\b|\blags? by\b|\bin vain\b",
    "going on": r"\b(go|goes|going|gone|went) on with\b|\bcomes? along\b",
    "telling": r"\b(is|are|was|were|be|as|unless) (told|said)\b|\bsays otherwise\b|\bsay with\b",
    "a place without a name": r"\b(is|are|was|were) (not )?here already\b|\bthere already\b",
    "having": r"\bcan(not)? be had\b|\bstands? in (the|its) way\b",
    "yours": r"\b(picture|photograph|exemplar|style|one)s? of (yours|one's own)\b",
    "a chain of what": r"\bthe same without `?--|\bthe pull\b|\banew\b",
}
"""Turns that readers whose first language is not English stumble over, by kind."""
STARTS = re.compile(r"(Of|What|Who|Whose|Whom|As|The same|Whether it)\b")
"""Beginnings of docstrings that need the line above to be understood."""


def strings() -> list[tuple[str, str]]:
    """Each string of the package, docstrings, messages and help, with its place."""
    return [
        (f"{path.relative_to(ROOT).as_posix()}:{node.lineno}", node.value)
        for path in sorted((ROOT / "dsgcli").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value
    ]


def test_texts_have_no_private_turns():
    """Who does what, in plain words."""
    pages = [page for page in PAGES if page.name not in ("CHANGELOG.md", "CONTRIBUTING.md")]
    texts = [(page.relative_to(ROOT).as_posix(), page.read_text("utf-8")) for page in pages]
    bad = [
        f"{place}: {kind}: {' '.join(text[max(0, m.start() - 30) : m.end() + 30].split())}"
        for place, text in [*texts, *strings()]
        for kind, turn in TURNS.items()
        for m in re.finditer(turn, text, re.IGNORECASE)
    ]
    assert not bad, "\n".join(bad)


def test_docstrings_stand_alone():
    """A docstring names its subject: it is also read in a tooltip, without the line above it."""
    bad = [
        f"{path.relative_to(ROOT).as_posix()}:{node.lineno}: {node.value.value.splitlines()[0]}"
        for path in sorted((ROOT / "dsgcli").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node.value.value, str) and STARTS.match(node.value.value)
    ]
    assert not bad, "\n".join(bad)
