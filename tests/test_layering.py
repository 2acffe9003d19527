"""Imports point one way: what stands above may use what stands below, never the reverse."""

import ast
import itertools
import re
import sys
import tomllib
from pathlib import Path

import fer_hf


PACKAGE = Path(fer_hf.__file__).parent
# Level of each part of the package; a part may import parts of a lower level, and its own. Parts of one level are
# siblings that do not know each other.
LEVELS = {
    "errors": 0,
    "escape": 0,
    "labels": 0,
    "provenance": 0,
    "bars": 0,
    "words": 0,
    "scores": 0,
    "files": 0.5,
    "metrics": 1,
    "plots": 1,
    "data": 2,
    "models": 2,
    "losses": 2,
    "training": 3,
    "evaluation": 3,
    "inference": 3,
    "runs": 4,
    "cli": 5,
    "__main__": 6,
}


def imported(path):
    """Dotted names of the modules that a file imports; a name taken from a package counts as its module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
            if node.module == "fer_hf":
                yield from (f"fer_hf.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def part(path):
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def test_every_part_of_the_package_imports_only_what_stands_below_it():
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        own = part(path)
        if path == PACKAGE / "__init__.py":
            continue
        for name in imported(path):
            if name == "fer_hf":
                wrong.append(f"{path.relative_to(PACKAGE)} imports the bare package")
            elif name.startswith("fer_hf."):
                other = name.split(".")[1]
                if other != own and LEVELS.get(other, 9) >= LEVELS[own]:
                    wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert wrong == []


def test_the_ground_imports_neither_torch_nor_the_package():
    for path in PACKAGE.glob("*.py"):
        if LEVELS.get(path.stem) == 0:
            top = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
            names = {getattr(node, "module", None) or node.names[0].name for node in top}
            assert not {name for name in names if name.split(".")[0] in ("torch", "fer_hf", "transformers")}, path.name


def test_networks_are_self_contained():
    # Transformers copies these files to the Hub as they stand: an import of fer_hf would break them there.
    allowed = {"torch", "torchvision", "transformers", "huggingface_hub", "math", "dataclasses", "typing"}
    files = [path for path in (PACKAGE / "models" / "networks").glob("*.py") if path.name != "__init__.py"]
    assert files
    for path in files:
        roots = {name.split(".")[0] for name in imported(path)}
        assert roots <= allowed, f"{path.relative_to(PACKAGE)} imports {roots - allowed}"


def test_nothing_in_the_package_uses_recipes_or_push_to_hub():
    for path in PACKAGE.rglob("*.py"):
        for name in imported(path):
            assert name.split(".")[0] not in ("recipes", "push_to_hub"), path
            assert not name.startswith("fer_hf.recipes"), path


def test_recipes_use_the_package_by_its_modules():
    recipes = list((PACKAGE.parent / "recipes").glob("*.py"))
    assert recipes
    for path in recipes:
        assert "fer_hf" not in imported(path), path


def test_commands_load_nothing_heavy_before_they_run():
    light = {"argparse", "importlib.util", "json", "os", "pathlib", "re", "runpy", "shlex", "sys", "typing"}
    for path in (PACKAGE / "cli" / "commands").glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                name = getattr(node, "module", None) or node.names[0].name
                assert name in light or name.startswith(
                    ("fer_hf.errors", "fer_hf.words", "fer_hf.cli.commands", "fer_hf.cli.parser")
                ), path


# Packages under another name than their module's.
DISTRIBUTIONS = {"PIL": "Pillow", "cv2": "opencv-python-headless", "jinja2": "Jinja2", "pillow_heif": "pillow-heif"}
DISTRIBUTIONS |= {"sklearn": "scikit-learn", "yaml": "PyYAML", "google": "onnx"}  # protobuf comes with onnx


def test_the_packages_that_are_imported_are_those_that_are_declared():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: words for name, words in project["optional-dependencies"].items() if name != "dev"}
    declared, extra = (
        {re.match(r"[\w.-]+", word)[0] for word in words}
        for words in (project["dependencies"], itertools.chain(*extras.values()))
    )
    files = [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "recipes").rglob("*.py")]
    roots = {name.split(".")[0] for path in files for name in imported(path)} - sys.stdlib_module_names - {"fer_hf"}
    found = {DISTRIBUTIONS.get(root, root) for root in roots}
    # OpenCV serves one detector, and the message of that says so; extras are also found by name, not imported.
    assert found - extra - {"opencv-python-headless"} == declared
