"""The page leaderboard.html as a reader has it: loaded, sorted, filtered, compared, downloaded, in a real browser."""

import csv
import io
import json

import pytest

from pmqbench.reporting.comparisons import compare, every_pair
from pmqbench.reporting.inference import holm
from pmqbench.reporting.page.contents import read_csv
from pmqbench.reporting.page.definitions import DEFINED
from pmqbench.reporting.page.render import write_page
from pmqbench.reporting.statistics import ranked
from pmqbench.reporting.tables import comparison_table
from pmqbench.reporting.verdicts import marked_rank
from tests.browser import CHROMIUM
from tests.reporting.page_in_browser import HEADS, ROWS, TIP, column, points

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")


def shown(row, name):
    """What a cell shows of a row of leaderboard.csv: a rank with the mark of a tie."""
    return marked_rank(row) if name == "rank" else row[name]


def test_it_shows_every_row_and_column(page, report):
    header, rows = read_csv(report.folder / "leaderboard.csv")
    assert {row[header.index("group_size")] for row in rows} == {"channel", "-"}  # so the column says nothing
    hidden = {"group_size", "ci_low", "ci_high", *(column.name for column in DEFINED if column.extra)}
    assert page.run(HEADS) == [name for name in header if name not in hidden]
    for name in page.run(HEADS):
        assert column(page, name) == [shown(dict(zip(header, row, strict=True)), name) for row in rows]
    assert {text.endswith("=") for text in column(page, "rank")} == {True, False}
    intervals = page.run("[...document.querySelectorAll('.interval')].map((one) => one.textContent)")
    assert intervals == [f"{row[header.index('ci_low')]} … {row[header.index('ci_high')]}" for row in rows]
    assert page.run("document.querySelector('#count').textContent") == f"{len(rows)} of {len(rows)} rows"


@pytest.mark.parametrize(("name", "descending"), [("average", True), ("size_mb", False), ("digits", True), ("bits", False)])
def test_a_click_sorts_best_first_and_another_reverses(page, name, descending):
    def models():
        return [float(text) for text, rank in zip(column(page, name), column(page, "rank"), strict=True) if rank]

    for clicks, order in ((1, descending), (2, not descending)):
        page.click(f"th[data-column={name}] button")
        found = models()
        assert found == sorted(found, reverse=order)
        assert len(set(found)) > 1
        sort = page.run(f"document.querySelector('th[data-column={name}]').ariaSort")
        assert sort == ("descending" if order else "ascending"), clicks
    assert column(page, "rank")[-2:] == ["", ""]


def test_search_and_chips_narrow_the_rows(page):
    page.click(".chip[data-name=quantizer][data-value=gptq]")
    page.click(".chip[data-name=quantizer][data-value=awq]")
    page.click(".chip[data-name=bits][data-value='4']")
    ranked = [name for name, rank in zip(column(page, "quantizer"), column(page, "rank"), strict=True) if rank]
    assert sorted(ranked) == ["awq"] * 3 + ["gptq"] * 3
    assert page.run("document.querySelector('.chip[data-value=gptq]').ariaPressed") == "true"
    page.choose("#search", "TIES gptq")
    assert column(page, "merge") == ["ties-0.3"]
    page.click("#reset")
    assert len(column(page, "merge")) == page.run("rows.length")
    assert page.run("document.querySelectorAll('.chip[aria-pressed=true]').length") == 0


def test_differences_are_to_the_reference_that_is_picked(page, report):
    pairs = comparison_table(compare(report.summary, "gptq")).to_dict("records")
    for reference in ("gptq", "full precision"):
        bits = 32 if reference == "full precision" else 3
        name = f"ta-0.3, {reference}" + (", 3 bits" if bits == 3 else "")
        page.run(f"void ([...$('reference').options].find((one) => one.text === '{name}').selected = true)")
        page.choose("#reference", page.run("$('reference').value"))
        shown = dict(
            zip(
                zip(*(column(page, one) for one in ("merge", "quantizer", "bits")), strict=True),
                column(page, "difference"),
                strict=True,
            )
        )
        wanted = [pair for pair in pairs if pair["reference"] == reference and pair["merge"] == "ta-0.3" and pair["bits"] == 3]
        assert len(wanted) == (4 if reference == "gptq" else 5)
        for pair in wanted:
            text = shown[("ta-0.3", pair["quantizer"], "3")]
            assert float(text) == float(pair["difference"])
        assert shown[("ta-0.3", reference, str(bits))] == "reference"
        upper, lower, p_holm = every_pair(report.summary, ranked(report.summary.entries))
        chosen = page.run("state.reference")
        expected = [
            int(one + other - chosen)
            for one, other, p in zip(upper, lower, p_holm, strict=True)
            if chosen in (one, other) and p < 0.05
        ]
        bold = page.run(f"{ROWS}.filter((row) => row.querySelector('.clear')).map((row) => Number(row.dataset.row))")
        assert sorted(bold) == sorted(expected)
        assert 0 < len(bold) < page.run("rows.length") - 3  # all but the reference, the experts and the base
    page.click("th[data-column=difference] button")
    found = [float(text) for text in column(page, "difference")[:-2] if text != "reference"]
    assert found == sorted(found, reverse=True)
    assert not page.run("document.querySelector('#difference-note').hidden")


def test_corrected_differences_to_the_best_are_those_of_the_leaderboard(page, report):
    header, rows = read_csv(report.folder / "leaderboard.csv")
    page.choose("#reference", "0")
    assert rows[0][0] == "1"
    found = dict(page.run("[...correctedPs()]"))
    expected = {number: row[header.index("to_best_p")] for number, row in enumerate(rows) if row[header.index("to_best_p")]}
    assert found.keys() == expected.keys()
    assert all(found[number] == pytest.approx(float(p), rel=0.006) for number, p in expected.items())
    assert len(set(expected.values())) > 3


def test_differences_to_the_experts_are_corrected_over_all_models(page, report):
    experts = page.run("rows.findIndex((row) => row[place.merge] === 'individual experts')")
    page.choose("#reference", str(experts))
    ps = page.run(
        "rows.map((_, number) => number).filter((number) => !referenceRows.has(number)).map((number) => difference(number)[3])"
    )
    assert [p for _, p in sorted(page.run("[...correctedPs()]"))] == pytest.approx(list(holm(ps)), rel=1e-9)


def download(browser, folder):
    browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    browser.click("#csv")
    for _ in range(500):
        if found := list(folder.glob("*.csv")):
            return found[0].read_bytes()
        browser.run("new Promise((done) => setTimeout(done, 20))")
    raise AssertionError("no file came")


def test_the_csv_of_all_rows_is_leaderboard_csv(page, report, tmp_path):
    assert download(page, tmp_path) == (report.folder / "leaderboard.csv").read_bytes()


def test_the_csv_has_the_rows_shown_in_their_order(page, report, tmp_path):
    page.click(".chip[data-name=quantizer][data-value=rtn]")
    page.click("th[data-column=size_mb] button")
    lines = list(csv.DictReader(io.StringIO(download(page, tmp_path).decode())))
    assert [line["merge"] for line in lines] == column(page, "merge")
    assert len(lines) == 3 * 2 + 2
    assert "difference" not in lines[0]


def test_the_csv_has_the_differences_that_are_shown(page, report, tmp_path):
    page.choose("#reference", "2")
    lines = list(csv.DictReader(io.StringIO(download(page, tmp_path).decode())))
    assert [points(line["difference"]) for line in lines] == column(page, "difference")
    assert {line["difference_to"] for line in lines} == {page.run("rowName(2)")}
    bold = page.run(f"{ROWS}.map((row) => Boolean(row.querySelector('.clear')))")
    assert [bool(line["difference_p_holm"]) and float(line["difference_p_holm"]) < 0.05 for line in lines] == bold
    assert True in bold
    assert all(float(line["difference_low"]) <= float(line["difference_high"]) for line in lines if line["difference"])


def test_columns_can_be_picked(page):
    page.click("#picker summary")
    page.click("input[data-column=normalised]")
    assert "normalised" not in page.run(HEADS)
    page.click("input[data-column=normalised]")
    assert "normalised" in page.run(HEADS)


def test_headers_are_reached_and_sort_by_keys_and_are_explained(page):
    page.run("document.querySelector('th[data-column=average] button').focus()")
    page.press("Enter")
    assert page.run("document.querySelector('th[data-column=average]').ariaSort") == "descending"
    assert page.run("document.activeElement.closest('th').dataset.column") == "average"
    page.press("Tab")
    assert page.run("document.activeElement.closest('th').dataset.column") == "normalised"
    explained = page.run("document.getElementById(document.activeElement.getAttribute('aria-describedby')).textContent")
    assert explained == page.run(TIP) != ""
    page.press("Escape")
    assert page.run(TIP) is None


def test_definitions_show_where_the_pointer_is(page):
    page.hover("th[data-column=size_mb] button")
    assert page.run(TIP) == page.run("definitionOf('size_mb')") != ""
    low, high = page.run("(({top, bottom}) => [top, bottom])(document.querySelector('#tip').getBoundingClientRect())")
    assert 0 <= low < high <= 900
    page.hover("h1")
    assert page.run(TIP) is None


def test_many_chips_are_folded(browser, report, tmp_path):
    """Twelve quantizers: a summary says which are chosen."""
    contents = json.loads(json.dumps(report.contents))
    quantizer = [column["name"] for column in contents["columns"]].index("quantizer")
    for number, row in enumerate(contents["rows"]):
        row[quantizer] += f"-{number % 3}" if row[0] else ""
    write_page(tmp_path / "leaderboard.html", contents)
    browser.open(tmp_path / "leaderboard.html")
    summary = "document.querySelector('#chips summary').textContent"
    assert browser.run(summary).startswith("quantizer: any of 1")
    browser.click("#chips summary")
    browser.click(".chip[data-value=gptq-1]")
    assert browser.run(summary) == "quantizer: gptq-1"
    assert browser.run("document.querySelectorAll('#chips > fieldset').length") == 2  # merge, bits
    assert browser.complaints() == []


def test_everything_to_act_on_has_a_name(page):
    """By the browser's own accessibility tree."""
    page.call("Accessibility.enable")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "combobox", "searchbox", "checkbox", "link", "columnheader", "rowheader", "table", "region", "dialog"}
    named = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    found = [(role, name) for role, name in named if role in roles]
    buttons = [node for node in nodes if not node["ignored"] and node["role"]["value"] == "button"]
    told = {node["name"]["value"]: node.get("description", {}).get("value", "") for node in buttons}
    assert told["CSV"].startswith("The rows shown")
    assert told["size_mb"] == page.run("definitionOf('size_mb')")
    assert {"button", "combobox", "searchbox", "columnheader", "rowheader", "table"} <= {role for role, _ in found}
    assert [role for role, name in found if not name.strip()] == []


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read(browser, report, width, scheme):
    """Nothing is wider than the window, no letters are small, and text stands out from what is behind it (WCAG AA)."""
    browser.open(report.page, width, scheme)
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run("document.documentElement.dataset.theme") == scheme
    small = "(one) => one.checkVisibility() && one.innerText && parseFloat(getComputedStyle(one).fontSize) < 12"
    assert browser.run(f"[...document.querySelectorAll('body *')].filter({small}).length") == 0
    colour = "getComputedStyle(document.documentElement).getPropertyValue"
    names = ("--fore", "--muted", "--accent", "--back", "--soft", "--hit")
    fore, muted, accent, *backs = [luminance(browser.run(f"{colour}('{name}')")) for name in names]
    for back in backs:
        for ink in (fore, muted, accent):
            light, dark = max(ink, back), min(ink, back)
            assert (light + 0.05) / (dark + 0.05) >= 4.5
    browser.click("#theme")
    assert browser.run("document.documentElement.dataset.theme") != scheme
    assert browser.complaints() == []


def luminance(colour):
    """Relative luminance of "#rrggbb" as WCAG 2 defines it."""
    shares = [int(colour.strip()[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_a_narrow_window_shows_names_beside_values_and_can_sort(browser, report):
    browser.open(report.page, 400)
    label = browser.run("getComputedStyle(document.querySelector('#table tbody td'), '::before').content")
    assert json.loads(label) == "rank"
    browser.choose("#sort", "size_mb")
    assert column(browser, "size_mb")[0] == min(column(browser, "size_mb"), key=float)
