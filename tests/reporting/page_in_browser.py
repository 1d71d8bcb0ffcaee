"""What tests of leaderboard.html read from it in a browser."""

ROWS = "[...document.querySelectorAll('#table tbody tr')]"
HEADS = "[...document.querySelectorAll('#table thead th')].map((head) => head.dataset.column)"
TIP = "document.querySelector('#tip:popover-open')?.textContent"
OPEN = "document.querySelector('#drawer').open"


def column(browser, name):
    """Text of a column's cells, top to bottom, without their intervals."""
    place = browser.run(HEADS).index(name)
    own = "(cell) => (cell.querySelector('.interval') ? cell.firstChild.firstChild : cell).textContent"
    return browser.run(f"{ROWS}.map((row) => row.children[{place}]).map({own})")


def points(text):
    """A difference as the page shows it."""
    return f"{float(text):+.2f}".replace("+0.00", "0.00") if text else "reference"
