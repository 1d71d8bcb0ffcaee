"""What stands beside the table of leaderboard.html, in a real browser: drawer, costs, paper view, the page of all suites."""

import itertools
import json
import shlex
from urllib.parse import quote

import pytest

from pmqbench.reporting.page.contents import joint_contents, read_csv
from pmqbench.reporting.page.render import write_page
from pmqbench.reporting.style import MARKERS, styles
from tests.browser import CHROMIUM
from tests.reporting.page_in_browser import OPEN, column, points

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")


def test_a_row_opens_with_keys_and_shows_what_stands_behind_it(page, report):
    page.run("document.querySelector('#table tbody .row').focus()")
    page.press("Enter")
    page.wait(OPEN)
    detail = report.contents["details"][0]
    text = page.run("document.querySelector('#drawer').innerText")
    assert page.run("document.activeElement.closest('dialog')?.id") == "drawer"
    for part in ("merge.method", "git_commit", *(file["folder"] for file in detail["files"])):
        assert part in text
    command = page.run("document.querySelector('#command').textContent")
    words = shlex.split(command.replace("\\\n", ""))
    records = [record for file in detail["files"] for record in file["records"]]
    assert words == ["snakemake", "--cores", "all", "--configfile", "config/mini.yaml", "--", *records]
    links = page.run("[...document.querySelectorAll('#files a')].map((link) => link.getAttribute('href'))")
    assert {f"../../{record}" for record in records} <= set(links)
    tasks = page.run(
        "[...document.querySelectorAll('#tasks tbody tr')].map((row) => [...row.children].map((cell) => cell.textContent))"
    )
    assert [[row[0], row[3]] for row in tasks] == [[task["task"], f"{task['value']:.2f}"] for task in detail["tasks"]]
    assert page.run("document.querySelectorAll('#layers tbody tr').length") == 18
    assert page.run("document.querySelectorAll('#drawer polyline').length") == 2
    page.press("Escape")
    page.wait(f"!{OPEN}")
    assert page.run("document.activeElement.className") == "row"


def test_an_address_opens_its_row(browser, report):
    browser.open(report.page, fragment="#row=ta-tuned%2C%20epmq%2C%204%20bits")
    browser.wait(OPEN)
    assert browser.run("document.querySelector('#drawer-title').textContent") == "ta-tuned, epmq, 4 bits"


def test_a_row_can_become_the_reference(page):
    page.run("openDrawer(4)")
    page.click("#compare")
    assert page.run("state.reference") == 4
    assert page.run("document.querySelector('#reference').value") == "4"
    page.run("openDrawer(1)")
    text = page.run("document.querySelector('#drawer').innerText")
    middle, low, high, p = page.run("difference(1)")
    assert f"{points(middle)} points ({points(low)} … {points(high)})" in text
    assert f"p = {page.run(f'significant({p})')}, " in text
    assert "corrected" in text


@pytest.mark.parametrize("cost", ["size_mb", "calibration_seconds"])
def test_the_front_is_what_beats_all_that_costs_less(page, report, cost):
    page.choose("#cost", cost)
    header, rows = read_csv(report.folder / "leaderboard.csv")
    models = [dict(zip(header, row, strict=True)) for row in rows if row[0]]
    points = [(float(model[cost]), -float(model["average"])) for model in models if float(model[cost]) > 0]
    assert page.run("document.querySelectorAll('#pareto .point').length") == len(points)
    best, front = float("inf"), []
    for at, average in sorted(points):
        if average < best:
            best, front = average, [*front, (at, -average)]
    items = page.run("[...document.querySelectorAll('#front li')].map((one) => one.textContent.split(': ').at(-1))")
    assert [tuple(map(float, reversed(item.split(" at ")))) for item in items] == front


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("cost", ["size_mb", "calibration_seconds"])
def test_the_front_is_labelled_and_no_label_covers_another(browser, report, width, cost):
    browser.open(report.page, width)
    browser.choose("#cost", cost)
    front = browser.run("paretoFront(cloud()).map(({number}) => number)")
    texts = browser.run("[...document.querySelectorAll('#pareto .label')].map((label) => label.textContent)")
    names = [browser.run(f"rowName({number})") for number in front]
    assert texts == (names if width > 600 else [str(1 + place) for place in range(len(front))])
    box = "(({x, y, right, bottom}) => [x, y, right, bottom])"
    label_boxes = f"[...document.querySelectorAll('#pareto .label')].map((one) => {box}(one.getBoundingClientRect()))"
    boxes = browser.run(label_boxes)
    drawing = browser.run(f"{box}(document.querySelector('#pareto svg').getBoundingClientRect())")
    for (_, top, _, bottom), (_, above, _, below) in itertools.combinations(boxes, 2):
        assert top >= below - 1 or bottom <= above + 1
    for left, top, right, bottom in boxes:
        assert drawing[0] <= left < right <= drawing[2]
        assert drawing[1] <= top < bottom <= drawing[3]
    marks = browser.run("[...document.querySelectorAll('#pareto .point')].map((one) => one.getBoundingClientRect().x)")
    assert min(marks) > max(box[2] for box in boxes) - 12  # points stand right of the labels


def test_marks_are_those_of_the_plots(page, report):
    entries = report.summary.entries
    look = styles(entries.loc[entries["kind"] == "quantized", "quantizer"])
    for number in page.run("cloud().map(({number}) => number)"):
        quantizer = page.run(f"cell({number}, 'quantizer')")
        mark = f"document.querySelector('.model[data-row=\"{number}\"] .point').attributes"
        fill, shape = page.run(f"(({{fill, d}}) => [fill.value, d.value])({mark})")
        expected = ("currentColor", "*") if quantizer == "full precision" else (look[quantizer].colour, look[quantizer].marker)
        assert fill == expected[0]
        assert shape == page.run(f"OUTLINES[{json.dumps(expected[1])}]")
    assert set(MARKERS) <= set(page.run("Object.keys(OUTLINES)"))


def test_what_a_paper_takes_is_what_is_shown(page):
    page.click(".chip[data-name=bits][data-value='4']")
    page.choose("#search", "gptq")
    page.click("#paper")
    page.wait("document.querySelector('#paper-view').open")
    markdown, latex = (page.run(f"document.querySelector('#{kind}').value").splitlines() for kind in ("markdown", "latex"))
    names = page.run("shownColumns()")
    assert markdown[0] == f"| {' | '.join(names)} |"
    assert len(markdown) == 2 + 3
    assert latex[2] == " & ".join(names).replace("_", "\\_") + " \\\\"
    assert len(latex) == 6 + 3
    assert all(line.count(" & ") == len(names) - 1 for line in (latex[2], *latex[4:-2]))


def test_the_page_of_all_suites(browser, report, tmp_path):
    header, rows = read_csv(report.folder / "leaderboard.csv")
    origins = {"mini": "here", "other": "submitted"}
    sent = {"here": "", "submitted": "https://example.org/paper"}
    joint = [[suite, *row, origin, sent[origin]] for suite, origin in origins.items() for row in rows]
    table = ["suite", *header, "origin", "link"], joint
    write_page(
        tmp_path / "leaderboard.html", joint_contents(table, {"mini": "suites/mini/leaderboard.html", "other": "o.html"}, [])
    )
    browser.open(tmp_path / "leaderboard.html")
    assert "choose one suite" in browser.run("document.querySelector('#pareto').textContent")
    browser.click(".chip[data-name=suite][data-value=other]")
    assert browser.run("document.querySelectorAll('#pareto .point').length") == len(rows) - 2
    ranked = [suite for suite, rank in zip(column(browser, "suite"), column(browser, "rank"), strict=True) if rank]
    assert set(ranked) == {"other"}
    assert len(ranked) == len(rows) - 2
    assert len(column(browser, "suite")) == len(rows)
    links = "[...document.querySelectorAll('#drawer a')].map((link) => link.getAttribute('href'))"
    browser.click("#table tbody .row")
    browser.wait(OPEN)
    assert browser.run(links) == ["https://example.org/paper"]
    browser.run("openDrawer(0)")
    row = browser.run("rowName(0)").removeprefix("mini, ")
    assert browser.run(links) == [f"suites/mini/leaderboard.html#row={quote(row)}"]
    assert browser.complaints() == []


def test_names_are_text_wherever_they_appear(browser, report, tmp_path):
    hostile = "<img src=x onerror=alert(1)></script>"
    contents = json.loads(json.dumps(report.contents).replace("gptq", hostile))
    write_page(tmp_path / "leaderboard.html", contents)
    browser.open(tmp_path / "leaderboard.html")
    browser.run(f"openDrawer(rows.findIndex((row) => row.includes({json.dumps(hostile)})))")
    assert browser.run("document.images.length") == 0
    assert hostile in browser.run("document.querySelector('#drawer-title').textContent")
    assert browser.complaints() == []
