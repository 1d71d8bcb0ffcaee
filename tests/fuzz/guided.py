"""Coverage-guided fuzzing of the readers of files, by atheris: `python -m tests.fuzz.guided images -max_total_time=600`.

Not among the tests, for atheris is made for few Pythons (`pip install atheris`). From one valid file it looks for inputs that
reach new lines of this project's readers; libFuzzer's options may follow the reader's name. A reader may give its result or a
PMQError with a remedy, as in the property tests; anything else ends the run, and the input is kept as crash-<hash>.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pmqbench"]):
    from pmqbench.checkpoints import Checkpoint
    from pmqbench.config_files import read_file
    from pmqbench.integrity import verify_tensors
    from pmqbench.quantization.packing import load_codes
    from pmqbench.records import read_record
    from pmqbench.tasks.images import decode

from safetensors.torch import save

from tests.fuzz.survival import outcome
from tests.fuzz.test_checkpoints import FILE, PARTS
from tests.fuzz.test_images import stored
from tests.fuzz.test_json_files import RECORD

Reader = tuple[str, bytes, Callable[[Path], object]]


def read_checkpoint(file: Path) -> None:
    """All that is in one."""
    verify_tensors(file)
    for _ in Checkpoint(file).items():
        pass


READERS: dict[str, Reader] = {
    "checkpoints": ("file.safetensors", FILE, read_checkpoint),
    "configs": ("config.yaml", Path("config/mini.yaml").read_bytes(), read_file),
    "images": ("image.png", stored("RGB", "PNG"), lambda file: decode(file, 8, "row 0")),
    "packed": ("packed.safetensors", save(PARTS, {"layer.bits": "3"}), load_codes),
    "records": ("record.json", json.dumps(RECORD).encode(), read_record),
}


def main() -> None:
    """Runs one reader until libFuzzer's options end it."""
    name, seed, reader = READERS[sys.argv.pop(1)]
    corpus = Path(tempfile.mkdtemp())
    (corpus / "valid").write_bytes(seed)
    path = Path(tempfile.mkdtemp()) / name

    def read(content: bytes) -> None:
        path.write_bytes(content)
        outcome(reader, path)

    atheris.Setup([*sys.argv, str(corpus)], read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
