"""What docs/security.md says of the code: nothing is unpickled or evaluated, and no text of others is a command or markup."""

import ast
from pathlib import Path

import pytest

from pmqbench.config import load_suite
from pmqbench.errors import PMQError
from tests.submissions.conftest import CONFIG

ROOT = Path(__file__).parents[1]
CODE = [
    path for folder in ("pmqbench", "scripts", "snakemake_logger_plugin_pmqbench") for path in (ROOT / folder).rglob("*.py")
]
FORBIDDEN = {
    *(
        "eval",
        "exec",
        "compile",
        "__import__",
        "os.system",
        "os.popen",
        "pickle.load",
        "pickle.loads",
        "joblib.load",
        "dill.load",
    ),
    *(
        "marshal.loads",
        "shelve.open",
        "yaml.load",
        "yaml.unsafe_load",
        "yaml.full_load",
        "load_dataset",
        "datasets.load_dataset",
    ),
    *("torch.hub.load", "torch.jit.load", "pd.read_pickle", "shutil.unpack_archive", "tarfile.open", "zipfile.ZipFile"),
    *("subprocess.getoutput", "subprocess.getstatusoutput", "tempfile.mktemp"),
}
REQUIRED = {"torch.load": {"weights_only": True}}
REFUSED = {"shell": True, "trust_remote_code": True, "allow_pickle": True}
"""Keywords that no call has with these values."""


def calls():
    """(place, dotted name, constant keywords) of every call in the code."""
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                keywords = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
                yield f"{path.relative_to(ROOT)}:{node.lineno}", ast.unparse(node.func), keywords


def test_nothing_is_unpickled_evaluated_or_given_to_a_shell():
    found, seen = [], set()
    for place, name, keywords in calls():
        wanted = REQUIRED.get(name, {})
        seen |= {name} & REQUIRED.keys()
        if name in FORBIDDEN or any(keywords.get(key) is value for key, value in REFUSED.items()):
            found.append(f"{place}: {name}")
        if any(keywords.get(key) is not value for key, value in wanted.items()):
            found.append(f"{place}: {name} without {wanted}")
        if name.startswith("subprocess.") and "args" in keywords:
            found.append(f"{place}: {name}")
    assert found == []
    assert seen == set(REQUIRED)  # the walk sees calls at all


@pytest.mark.parametrize(
    "name", ["=cmd|' /C calc'!A0", "+1", "-1", "@sum", "<b>", "a|b", "$x$", "../a", "a/b", "a\n", "x" * 200]
)
@pytest.mark.parametrize("key", ["suite", "merges", "quantizers", "tasks"])
def test_no_name_is_a_formula_a_path_or_markup(key, name):
    """Names stand in CSV, Markdown, SVG and paths as they are."""
    config = {part: value for part, value in CONFIG.items() if part not in ("reference", "targets")}
    if key == "suite":
        config[key] = name
    elif key == "tasks":
        config[key] = [{"name": name, "source": {"name": "mini"}, "classnames": ["a", "b"], "templates": ["{}"]}]
    else:
        config[key] = {name: next(iter(CONFIG[key].values()))}
    with pytest.raises(PMQError, match=r"cannot be part of a path|does not fit|no name in one line"):
        load_suite(config)
