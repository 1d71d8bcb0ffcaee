"""The README's block and picture."""

import csv

import pytest

from pmqbench.errors import DataError
from pmqbench.reporting import readme
from pmqbench.reporting.readme import BEGIN, END, excerpt, refresh_block


def test_excerpt_hides_no_quantizer(written):
    rows = list(csv.DictReader((written / "leaderboard.csv").read_text().splitlines()))
    text = excerpt(written)
    merged = [row for row in rows if row["rank"] and row["quantizer"] == "full precision"]
    best = max(merged, key=lambda row: float(row["average"]))["merge"]
    assert text.startswith(
        f"**mini**, merge {best}, the best at full precision: every quantizer, and the references (ranks among all 33 models)"
    )
    shown = [tuple(cell.strip() for cell in line.split("|")[1:7]) for line in text.splitlines() if line.startswith("|")][2:]
    keys = ("tied_rank", "merge", "quantizer", "bits", "group_size")
    assert shown == [tuple(row[key] for key in ("rank", *keys)) for row in rows if row["merge"] == best or not row["rank"]]
    assert len(shown) == 1 + 5 * 2 + 2
    assert {row["merge"] for row in merged} == {"ta-0.3", "ties-0.3", "ta-tuned"}
    for merge in ("ta-0.3", "ta-tuned"):
        assert f"| {merge} |" in excerpt(written, merge)
    with pytest.raises(DataError, match=r'no merge "ta-tune".*ta-tuned'):
        excerpt(written, "ta-tune")


def test_readme_is_refreshed_with_its_picture(tmp_path, written):
    page = tmp_path / "README.md"
    page.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n")
    (written / "plots").mkdir()
    (written / "plots/average_by_bits.png").write_bytes(b"picture")
    readme.refresh(page, written)
    assert page.read_text() == f"# Title\n\n{BEGIN}\n{excerpt(written)}\n{END}\n"
    assert (tmp_path / "docs/images/average_by_bits.png").read_bytes() == b"picture"


def test_readme_block(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"# Title\n\n{BEGIN}\nold\n{END}\n\nEnd.\n")
    assert refresh_block(readme, "| new |\n")
    assert readme.read_text() == f"# Title\n\n{BEGIN}\n| new |\n{END}\n\nEnd.\n"
    before = readme.stat().st_mtime_ns
    assert not refresh_block(readme, "| new |")
    assert readme.stat().st_mtime_ns == before


@pytest.mark.parametrize("text", ["no markers", f"{BEGIN}\n", f"{END}\n{BEGIN}\n", f"{BEGIN}{END}{END}"])
def test_readme_without_markers(tmp_path, text):
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(DataError, match="lines <!-- leaderboard:begin -->"):
        refresh_block(readme, "x")
    assert readme.read_text() == text
