"""The layers and owners of docs/architecture.md, enforced."""

from __future__ import annotations

import ast
import functools
import json
import re
from pathlib import Path

import pytest
from over_all import below, over_all

import dsgcli

ROOT = Path(dsgcli.__file__).parent
TESTS = Path(__file__).parent

LAYERS = [  # bottom first; a unit may import those below it
    {"errors"},
    {"types", "progress", "names", "memory", "toml"},
    {"recipe", "runtime", "workers", "models", "media", "faces"},  # know nothing of each other
    {"store"},
    {"inference"},
    {"training"},
    {"portraits"},
    {"pipeline"},
    {"stylize", "generate", "doctor", "export", "video_report"},
    {"bars"},
    {"console"},
    {"cli"},
    {"__main__", "__init__"},
]
OWNERS = {  # who may import what, at any depth
    "av": {"media/video_", "media/color.py", "media/remux.py", "media/segments.py"},
    "mediapipe": {"faces/mediapipe_"},
    "cv2": {"faces/", "training/teachers/", "video_report.py"},
    "matplotlib": {"video_report.py"},
    "typer": {"cli/", "console.py"},
    "rich": {"console.py", "bars.py"},
    "joblib": {"runtime.py", "workers/"},
    "distributed": {"workers/cluster.py"},
    "safetensors": {
        "store/",
        "training/checkpoint.py",
        "generate/codes.py",
        "stylize/checkpoint.py",
    },
    "platformdirs": {"store/", "cli/settings.py"},
    "openvino": {"inference/openvino_"},
    "onnxruntime": {"export.py"},
}
PURE = {"torch", "math", "itertools", "functools", "typing", "collections", "dataclasses"}
PURE |= {"dsgcli", "__future__"}

RANK = {unit: rank for rank, layer in enumerate(LAYERS) for unit in layer}
FILES = sorted(ROOT.rglob("*.py"))
by_name = over_all(FILES, below(ROOT))


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def for_types_only(path: Path) -> set[str]:
    """Names imported under `if TYPE_CHECKING:`, which no program ever loads."""
    names = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            for inner in ast.walk(node):
                if isinstance(inner, ast.ImportFrom):
                    names |= {f"{inner.module}.{alias.name}" for alias in inner.names}
                elif isinstance(inner, ast.Import):
                    names |= {alias.name for alias in inner.names}
    return names


def unit(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@by_name
def test_imports_point_down(path):
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "dsgcli" and len(parts) > 1 and parts[1] in RANK:
            other = parts[1]
            assert other == unit(path) or RANK[other] < RANK[unit(path)], f"imports {name}"


@by_name
def test_every_unit_has_its_layer(path):
    assert unit(path) in RANK


@by_name
def test_imports_are_absolute(path):
    relative = [n for n in ast.walk(tree(path)) if isinstance(n, ast.ImportFrom) and n.level]
    assert not relative


@pytest.mark.parametrize("package", OWNERS)
def test_third_party_has_one_owner(package):
    users = {
        path.relative_to(ROOT).as_posix()
        for path in FILES
        if package in {n.split(".")[0] for n in imports(path) - for_types_only(path)}
    }
    strangers = {user for user in users if not user.startswith(tuple(OWNERS[package]))}
    assert not strangers


@over_all(sorted((ROOT / "models").glob("*.py")), below(ROOT))
def test_models_are_pure(path):
    """A network maps tensors to tensors: no files, no pictures, no command line."""
    assert {n.split(".")[0] for n in imports(path)} <= PURE


@pytest.mark.parametrize("name", ["types", "errors", "progress", "console", "cli/options"])
def test_nouns_and_commands_load_without_numpy_and_torch(name):
    """Imports at the top of these files are paid by `dsg --help`."""
    top = {
        alias.name.split(".")[0] if isinstance(node, ast.Import) else str(node.module).split(".")[0]
        for node in tree(ROOT / f"{name}.py").body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert not top & {"numpy", "torch", "PIL", "rich", "av", "mediapipe"}


def test_no_circles_of_imports():
    """Imports for types only count: a name that two modules need lies below both."""
    named = {dotted(path): path for path in FILES if path.parent != ROOT or path.stem != "__init__"}
    edges = {}
    for name, path in named.items():
        found = {n if n in named else n.rpartition(".")[0] for n in imports(path)}
        edges[name] = (found & named.keys()) - {name}
    assert not [sorted(circle) for circle in components(edges) if len(circle) > 1]


def dotted(path: Path) -> str:
    """`dsgcli.media.files` of a file; a package goes by its own name."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def components(edges: dict[str, set[str]]) -> list[set[str]]:
    """Strongly connected components (Tarjan, 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in edges[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            found.append(set(stack[at:]))
            del stack[at:]

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return found


@by_name
def test_modules_say_what_they_are(path):
    assert ast.get_docstring(tree(path))


# ── the tests themselves ─────────────────────────────────────────────────────────────────────────


def golden_marks() -> set[str]:
    """Case ids of every `@pytest.mark.golden("...")`, in lists of parameters too."""
    found = set()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.golden":
                found |= {a.value for a in node.args if isinstance(a, ast.Constant)}
    return found


def test_every_golden_case_has_a_test():
    manifest = json.loads((TESTS / "reference" / "manifest.json").read_text("utf-8"))
    cases = {case["id"] for case in manifest["cases"]}
    assert golden_marks() == cases


PRIVATE = re.compile(r"_(?!_)\w+|.*\._(?!_)\w+")


@over_all(sorted(TESTS.rglob("*.py")), below(TESTS))
def test_tests_patch_no_private_names(path):
    """A patched private function ties a test to how the code is cut."""
    patched = {
        argument.value
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".setattr", "patch"))
        for argument in node.args[:2]
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }
    assert not {name for name in patched if PRIVATE.fullmatch(name)} - set(STILL_PATCHED)


STILL_PATCHED = ("_installed_from",)
"""What leaves with the code that it belongs to."""


def test_test_files_have_names_of_their_own():
    names = [path.name for path in TESTS.rglob("test_*.py")]
    assert len(names) == len(set(names))


def test_every_protocol_is_in_the_page():
    page = (TESTS.parent / "docs" / "architecture.md").read_text("utf-8")
    protocols = {
        node.name
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef) and any(ast.unparse(b) == "Protocol" for b in node.bases)
    }
    assert not {name for name in protocols - {"Task"} if f"`{name}`" not in page}
