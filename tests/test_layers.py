"""Imports point down, and siblings of a layer do not import each other."""

import ast
import shutil
import subprocess
from pathlib import Path

import pytest
from setuptools import find_packages

PACKAGE = Path(__file__).parents[1] / "src" / "tascnet"

LAYERS = {
    "config": 0,
    "errors": 0,
    "precision": 0,
    "progress": 0,
    "values": 0,
    "device": 1,
    "files": 1,
    "place": 1,
    "structures": 1,
    "data": 2,
    "planes": 2,
    "convert": 3,
    "fusion": 3,
    "metrics": 3,
    "model": 3,
    "settings": 3,
    "visualize": 3,
    "build": 4,
    "runs": 4,
    "data_tools": 5,
    "networks": 5,
    "inference": 6,
    "evaluation": 7,
    "triage": 7,
    "training": 8,
    "commands": 9,
    "cli": 10,
    "__main__": 11,
}
"""Part -> layer. A part is a module or a sub-package; inside a sub-package, imports are free of cycles."""

MODULES = sorted(PACKAGE.rglob("*.py"))


def part_of(module: str) -> str | None:
    """tascnet.data.formats.coco -> data; None for the package itself, which holds the version and public names."""
    names = module.split(".")
    return names[1] if len(names) > 1 and names[0] == "tascnet" else None


def imports_of(path: Path) -> set[str]:
    """Every tascnet module that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            # "from tascnet import visualize" imports a part; "from tascnet import __version__" does not
            found |= (
                {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "tascnet" else {node.module}
            )
    return {name for name in found if part_of(name) in LAYERS}


def module_of(path: Path) -> str:
    names = list(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


def test_every_part_has_a_layer():
    parts = {part_of(module_of(path)) for path in MODULES} - {None}
    assert parts == set(LAYERS)


@pytest.mark.parametrize("path", MODULES, ids=module_of)
def test_imports_point_down(path):
    part = part_of(module_of(path))
    if part is None:
        return  # the package's __init__ gathers public names from all layers
    for imported in imports_of(path):
        other = part_of(imported)
        assert other == part or LAYERS[other] < LAYERS[part], f"{module_of(path)} imports {imported}"


def test_no_cycles_inside_the_parts():
    graph = {module_of(path): imports_of(path) for path in MODULES if part_of(module_of(path))}
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join((*above, module))
        if module not in done:
            for imported in graph.get(module, ()):
                visit(imported, (*above, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_relative_imports_are_not_used():
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), path


def test_every_room_is_a_package_that_a_wheel_contains():
    rooms = {path.parent for path in MODULES}
    assert {module_of(room / "__init__.py") for room in rooms} == set(find_packages(str(PACKAGE.parent)))


def test_git_ignores_no_module():
    root = PACKAGE.parents[1]
    files = [str(path.relative_to(root)) for path in (*MODULES, *sorted((root / "tests").rglob("test_*.py")))]
    if shutil.which("git") is None or not (root / ".git").exists():
        pytest.skip("not a git checkout")
    # exit code 1: none of them is ignored; --no-index, because files that git has already are never shown as ignored
    found = subprocess.run(["git", "-C", root, "check-ignore", "--no-index", *files], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (1, "")
