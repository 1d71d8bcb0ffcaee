"""Code from the documentation's pages, as a reader would copy it."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]


def sample(page: str, marker: str) -> str:
    """The one Python block of a page (path below the repository) that holds `marker`."""
    (code,) = [code for code in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL) if marker in code]
    return code


def load_sample(page: str, marker: str, folder: Path) -> ModuleType:
    """The block as a module, written into `folder` and imported from there."""
    path = folder / f"sample_{Path(page).stem}.py"
    path.write_text(sample(page, marker))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # where dataclass and pydantic look annotations up
    spec.loader.exec_module(module)
    return module
