"""Options, schemas and checks that all merging methods share."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pmqbench.errors import ConfigError
from pmqbench.merging.base import MERGERS

PAGE = Path(__file__).parents[2] / "docs" / "merging.md"
NAMES = MERGERS.names()  # whatever there is: a new method needs no line here


def documented() -> dict[str, set[str]]:
    """Method -> options, as the first table of docs/merging.md has them."""
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", PAGE.read_text(), re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", options)) for name, options in rows}


def test_the_page_has_every_method_and_option() -> None:
    assert documented().keys() == set(NAMES)
    for name, options in documented().items():
        assert options == set(MERGERS.schema(name).get("properties", {})), name


@pytest.mark.parametrize("name", NAMES)
def test_a_method_stands_in_a_file_of_its_name_and_describes_its_options(name: str) -> None:
    assert MERGERS.get(name).__module__ == f"pmqbench.merging.{name}"
    assert MERGERS.get(name).__doc__
    for option, described in MERGERS.schema(name).get("properties", {}).items():
        assert described.get("description"), option
        assert "default" in described, option


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("task_arithmetic", {"scaling": 30}),
        ("task_arithmetic", {"scaling": [0.3, 30]}),
        ("task_arithmetic", {"scaling": "a lot"}),
        ("simple_average", {"scaling": 0.3}),
        ("ties", {"density": 0}),
        ("ties", {"density": 20}),
        ("ties", {"trim": "layer"}),
        ("ties", {"weights": [1, 0]}),
        ("ties", {"aggregate": "max"}),
    ],
)
def test_schema_refuses(name: str, options: dict) -> None:
    import jsonschema

    jsonschema.validate({}, MERGERS.schema(name))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(options, MERGERS.schema(name))


@pytest.mark.parametrize("name", ["task_arithmetic", "ties"])
def test_schema_takes_ints_and_lists(name: str) -> None:
    import jsonschema

    jsonschema.validate({"scaling": [1, 0.5]}, MERGERS.schema(name))
    jsonschema.validate({"scaling": 1}, MERGERS.schema(name))


@pytest.mark.parametrize(
    ("name", "options", "place"),
    [
        ("task_arithmetic", {"scaling": [0.1, 0.2]}, "merges.mine.scaling"),
        ("ties", {"scaling": [0.1, 0.2]}, "merges.mine.scaling"),
        ("ties", {"weights": [1.0, 1.0]}, "merges.mine.weights"),
    ],
)
def test_list_of_wrong_length(name: str, options: dict, place: str) -> None:
    method = MERGERS.get(name)(**options)
    with pytest.raises(ConfigError) as error:
        method.check(["digits", "shapes", "textures"], "merges.mine")
    assert str(error.value).startswith(place)
    assert "3 values expected" in str(error.value)
    assert "digits, shapes, textures" in str(error.value)
    assert "2 given" in str(error.value)
    method.check(["digits", "shapes"], "merges.mine")


@pytest.mark.parametrize("scaling", [float("nan"), [0.3, float("inf")]])
def test_scaling_must_be_finite(scaling: float | list[float]) -> None:
    with pytest.raises(ConfigError, match=r"merges.mine.scaling: NaN and Inf"):
        MERGERS.get("task_arithmetic")(scaling=scaling).check(["digits", "shapes"], "merges.mine")


def test_schemas_do_not_import_torch() -> None:
    code = "import sys; from pmqbench.merging.base import MERGERS; [MERGERS.schema(n) for n in MERGERS.names()]"
    subprocess.run([sys.executable, "-c", f"{code}; sys.exit('torch' in sys.modules)"], check=True)
