"""sweep.html and `nakt compare`: what they say, that nothing is fetched, that names are escaped, that sorting works."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nakt_fed.report.sweep_page import (
    SCRIPT,
    Shown,
    headline,
    render_sweep,
    script_hash,
    telling,
    write_sweep,
)
from nakt_fed.statistics.leaderboard import leaderboard
from nakt_fed.statistics.rows import block
from tests.command import nakt
from tests.contrast import hard_to_read
from tests.nakt_fed.statistics.test_statistics import made_up, rows_of

EFFECTS = {"uniform": 0.0, "median": 0.002, "<robust>": 0.06, "blank & bad": -0.2}


@pytest.fixture(scope="module")
def page() -> str:
    rng = np.random.default_rng(3)
    stack = {cell: rng.integers(0, 256, (2, 32, 32), np.uint8) for cell in EFFECTS}
    truth = np.zeros((32, 32), np.uint8)
    truth[8:20, 8:20] = 255
    shown = Shown("stu/1", stack["uniform"][0], truth, {cell: masks[1] for cell, masks in stack.items()})
    return render_sweep(leaderboard(made_up(EFFECTS)), "five sites", [shown])


def test_the_page_says_who_is_best_and_escapes_names(page: str) -> None:
    assert "&lt;robust&gt; has the highest mean Dice" in page
    assert "<robust>" not in page
    assert "significantly better than 3 of the 3 others" in page
    assert page.count("<figcaption>") == 1 + len(EFFECTS)


def test_the_page_fetches_nothing_and_runs_only_its_own_script(page: str) -> None:
    assert "default-src 'none'" in page
    assert f"script-src '{script_hash(SCRIPT)}'" in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert "://" not in re.sub(r"http://www\.w3\.org/[\w/.]+", "", page)


def test_ranks_that_follow_one_another_are_a_range() -> None:
    """Of a dozen cells that cannot be told apart the list would be wider than a telephone."""
    rows = rows_of({name: np.full((1, 5), 0.5) for name in "abcdef"})
    assert '<td class="apart">2–6</td>' in render_sweep(leaderboard(block(rows)), "alike")


def test_only_settings_that_tell_cells_apart_are_columns() -> None:
    rows = rows_of({name: np.full((1, 5), mean) for name, mean in (("a", 0.5), ("b", 0.6))})
    for row in rows:
        row.settings.update(weighting=row.cell, student="none", beta=ord(row.cell))
    assert telling(leaderboard(block(rows))) == ["beta"]


def test_headline_of_a_tie() -> None:
    board = leaderboard(made_up({"a": 0.0, "b": 0.0005}))
    assert headline(board) in (
        f"{x} has the highest mean Dice, {board.entries[0].mean:.1f}\u00a0%. It cannot be told apart from {y}."
        for x, y in ("ab", "ba")
    )


def test_compare_prints_the_table_and_writes_page_and_tables(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    base = rng.uniform(0.3, 0.8, 40)
    rows = rows_of({"good": np.stack([base + 0.1] * 2), "bad": np.stack([base + 0.01 * rng.standard_normal(40)] * 2)})
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([row.model_dump() for row in rows]))
    done = nakt("compare", file, "--out", tmp_path / "out")
    assert (done.code, done.err) == (0, "")
    assert re.search(r"1\s+good\s.*–", done.out)
    assert re.search(r"2\s+bad\s.*−9\.9\s+−10\.\d.to.−9\.\d\s+< 0\.001\s+–", done.out)
    assert "40 pictures, 2 seeds; 1 comparison, corrected by Holm" in done.out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"sweep.html", "leaderboard.csv", "pairs.csv", "leaderboard.parquet", "pairs.parquet"}


def test_compare_tells_a_users_mistake_in_a_line(tmp_path: Path) -> None:
    done = nakt("compare", tmp_path / "none.json")
    assert done.code == 1
    assert done.err.startswith("error: ")
    assert "is not there; give the rows that `nakt sweep` has written" in done.err


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 420)])
def test_it_fits_and_is_readable(browser: Any, page: str, tmp_path: Path, scheme: str, width: int) -> None:
    """On a telephone too, where a row of the leaderboard is no higher than two lines."""
    (tmp_path / "sweep.html").write_text(page, encoding="utf-8")
    opened = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    opened.goto((tmp_path / "sweep.html").as_uri())
    assert opened.evaluate("document.documentElement.scrollWidth") == width
    assert max(opened.evaluate("[...document.querySelectorAll('tbody tr')].map(row => row.offsetHeight)")) < 70
    assert hard_to_read(opened, "body", ".note", "figcaption", "thead th") == {}
    opened.close()


@pytest.mark.slow
def test_a_click_sorts_the_table(browser: Any, tmp_path: Path) -> None:
    """Up, then down; and nothing that the page's policy forbids."""
    means = {"b": 0.5, "a": 0.7, "c": 0.6}
    board = leaderboard(block(rows_of({cell: np.full((1, 9), mean) for cell, mean in means.items()})))
    opened, said = browser.new_page(), []
    opened.on("console", lambda message: said.append(message.text))
    opened.goto(write_sweep(board, tmp_path).as_uri())
    table = opened.locator("table.sortable").first
    seen = [table.locator("tbody th").all_inner_texts()]
    for _ in range(2):
        table.get_by_role("button", name="Cell").click()
        seen.append(table.locator("tbody th").all_inner_texts())
    opened.close()
    assert seen == [["a", "c", "b"], ["a", "b", "c"], ["c", "b", "a"]]
    assert said == []
