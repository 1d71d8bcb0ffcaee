"""Strategies: whatever a file may hold, and valid documents with some of their parts changed."""

import copy

from hypothesis import strategies as st

TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        [
            *(
                "",
                " ",
                "../../etc/passwd",
                "/etc/passwd",
                "a/b",
                "..",
                "nan",
                "1e999",
                "{}",
                "{0.__class__}",
                "{task}",
                "x" * 10_000,
            ),
            *(
                "<script>alert(1)</script>",
                "=cmd|' /C calc'!A0",
                "$(touch x)",
                "a\nb",
                "a\x00b",
                "\u202egnp.exe",
                "é",
                "e\u0301",
            ),
        ]
    ),
)
NUMBERS = st.one_of(
    st.integers(-3, 40),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([2**31, 2**63, -(2**63), 10**30, 1e308, 0.5, -0.0]),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
KEYS = st.one_of(TEXTS, st.sampled_from([1, 2.5, None, True]))


def values(keys=TEXTS):
    """Any JSON, or with other keys any YAML."""
    return st.recursive(
        SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=6
    )


def places(document, path=()):
    """Paths of all parts of a document, the whole first."""
    yield path
    items = document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


@st.composite
def changed(draw, document, keys=TEXTS, most=3):
    """A document with one to `most` parts removed, replaced, doubled, or put in beside others."""
    holder = {"": copy.deepcopy(document)}
    for _ in range(draw(st.integers(1, most))):
        *path, last = draw(st.sampled_from([path for path in places(holder) if path]))
        parent = holder
        for key in path:
            parent = parent[key]
        match draw(st.sampled_from(["replace", "replace", "remove", "add", "swap"])):
            case "remove" if path:
                del parent[last]
            case "add" if isinstance(parent[last], dict):
                parent[last][draw(keys)] = draw(values(keys))
            case "add" if isinstance(parent[last], list):
                parent[last].append(draw(st.sampled_from(parent[last]) if parent[last] else values(keys)))
            case "swap":
                found = [holder[""], *_parts(holder[""])]
                parent[last] = copy.deepcopy(draw(st.sampled_from(found)))
            case _:
                parent[last] = draw(values(keys))
    return holder[""]


def _parts(document):
    items = document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
    for item in items:
        yield item
        yield from _parts(item)


@st.composite
def damaged(draw, content, most=4):
    """Bytes with pieces changed, cut out, doubled or put in."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, most))):
        start = draw(st.integers(0, max(0, len(content) - 1)))
        piece = draw(st.binary(max_size=8) | st.sampled_from([b"\xff" * 8, b"\x00" * 8, b"\t", b"&a ", b"*a", b"\xff\xfe"]))
        match draw(st.sampled_from(["set", "insert", "cut", "end", "double"])):
            case "set":
                content[start : start + len(piece)] = piece
            case "insert":
                content[start:start] = piece
            case "cut":
                del content[start : start + draw(st.integers(1, 64))]
            case "end":
                del content[start:]
            case "double":
                content[start:start] = content[start : start + 64]
    return bytes(content)
