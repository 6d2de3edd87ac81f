"""Load the model's own code. MLflow stores this file beside the code and runs it at each load;
nothing imports it.

The code is imported under a name that depends on what is in its files and where they are. So it
neither hides nor is hidden by a module of the caller's, two versions answer side by side in one
process, and what runs is what is in the folder now.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import mlflow

PACKAGE = "chest_ct_model"


def import_package(folder: Path) -> str:
    """Import a folder as a package.

    Args:
        folder: of Python files, whose imports of each other are relative.

    Returns:
        The name in `sys.modules`: PACKAGE, `_`, and 16 hexadecimal digits.

    Raises:
        ImportError: the folder holds no package.
    """
    digest = hashlib.sha256(str(folder).encode("utf-8", "surrogateescape"))
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    name = f"{PACKAGE}_{digest.hexdigest()[:16]}"
    if name in sys.modules:
        return name
    spec = spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None or not (folder / "__init__.py").is_file():
        raise ImportError(f"Expected the model's code in {folder}; found no package there.")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return name


def load() -> mlflow.pyfunc.PythonModel:
    """Return the model that the code beside this file makes."""
    name = import_package(Path(__file__).resolve().parent / "code" / PACKAGE)
    model: mlflow.pyfunc.PythonModel = importlib.import_module(f"{name}.pyfunc").ChestCT()
    return model


mlflow.models.set_model(load())
