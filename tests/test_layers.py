"""DESIGN §2: simulation → server, sites → nakt_fed, and nothing the other way round."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "nakt_fed": {"flwr", "ray", "server", "sites", "simulation", "tests"},
    "server": {"sites", "simulation", "tests"},
    "sites": {"server", "simulation", "tests", "ray"},
    "simulation": {"tests"},
}


def imports(path: Path, everywhere: bool = True) -> Iterator[str]:
    """Top-level names of what a file imports, anywhere in it or only at module level. Relative imports stay within the package."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if everywhere else module_level(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, f"{path}:{node.lineno} reaches out of its package"
            if node.level == 0 and node.module:
                yield node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and dynamic(node):
            yield str(getattr(node.args[0], "value", "")).partition(".")[0]


def dynamic(node: ast.Call) -> bool:
    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
    return name in ("import_module", "__import__") and bool(node.args)


def module_level(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from module_level(node)


@pytest.mark.parametrize("package", FORBIDDEN)
def test_direction_of_dependence(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    found = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imports(path)
        if name in FORBIDDEN[package]
    }
    assert found == set()


@pytest.mark.parametrize("package", ["server", "sites"])
def test_a_nested_package_cannot_hide_an_import(package: str) -> None:
    """Relative imports stay inside: `from .. import` was refused by `imports`, and there is no folder below that could use it."""
    assert not [path for path in (ROOT / package).iterdir() if path.is_dir() and path.name != "__pycache__"]


def test_sites_import_no_torch_at_module_level() -> None:
    for path in sorted((ROOT / "sites").rglob("*.py")):
        assert "torch" not in set(imports(path, everywhere=False)), path


def test_what_is_checked_would_be_found(tmp_path: Path) -> None:
    """The scanner itself: imports in functions, by name, dotted and relative."""
    file = tmp_path / "module.py"
    file.write_text(
        "import a.b\nfrom c.d import e\nfrom .f import g\ndef h():\n    import i\n    __import__('j.k')\nclass L:\n    import m\n"
    )
    assert set(imports(file)) == {"a", "c", "i", "j", "m"}
    assert set(imports(file, everywhere=False)) == {"a", "c", "m"}


def loaded(statement: str) -> set[str]:
    """Top-level modules that a fresh process has loaded after a statement."""
    code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_nakt_fed_is_light_to_import() -> None:
    assert not loaded("import nakt_fed") & {"torch", "numpy", "pydantic", "zarr", "flwr", "ray"}


def test_the_sites_app_loads_no_torch() -> None:
    """It is started anew for every message in a deployment."""
    assert not loaded("import sites.app") & {"torch", "ray", "server", "simulation"}
