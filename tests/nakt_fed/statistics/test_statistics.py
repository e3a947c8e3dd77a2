"""Holm by hand, Wilcoxon and the bootstrap against SciPy, a planted effect that must be found and a null that must not."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nakt_fed.errors import DataError
from nakt_fed.metrics import paired_bootstrap
from nakt_fed.statistics.leaderboard import leaderboard
from nakt_fed.statistics.pairs import bootstrap, compare, holm, signed_rank
from nakt_fed.statistics.rows import Block, Row, block, read_rows
from nakt_fed.statistics.tables import leaderboard_rows, pair_rows, write_parquet

few = settings(max_examples=40, deadline=None)


def rows_of(dice: dict[str, np.ndarray], first_seed: int = 0) -> list[Row]:
    """{cell: (seeds, pictures)} as rows; the pictures lie in two test sets."""
    return [
        Row(cell=cell, seed=first_seed + seed, per_image={f"{'ab'[i % 2]}/{i:03d}": v for i, v in enumerate(values)})
        for cell, table in dice.items()
        for seed, values in enumerate(table.tolist())
    ]


def made_up(effects: dict[str, float], seeds: int = 3, pictures: int = 80, noise: float = 0.05) -> Block:
    """Pictures are easy or hard for all cells alike; a cell adds its effect."""
    rng = np.random.default_rng(5)
    ease = rng.uniform(0.3, 0.8, pictures)
    return block(rows_of({c: ease + e + noise * rng.standard_normal((seeds, pictures)) for c, e in effects.items()}))


def test_holm_by_hand() -> None:
    """Sorted 0.01, 0.02, 0.03, 0.04: times 4, 3, 2, 1 is 0.04, 0.06, 0.06, 0.04; the last may not fall below 0.06."""
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_holm_stays_at_most_one_and_of_nothing_is_nothing() -> None:
    assert holm([0.5, 0.6]) == [1, 1]
    assert holm([]) == []


@few
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_p_and_bonferroni_and_keeps_the_order(p: list[float]) -> None:
    corrected = holm(p)
    assert all(a <= c + 1e-12 and c <= min(1, len(p) * a) + 1e-12 for a, c in zip(p, corrected, strict=True))
    assert [c for _, c in sorted(zip(p, corrected, strict=True))] == sorted(corrected)


def test_signed_rank_is_scipys_and_takes_rounding_for_no_difference() -> None:
    d = np.random.default_rng(1).normal(0.02, 0.1, 40)
    assert signed_rank(d) == stats.wilcoxon(d).pvalue
    assert signed_rank(np.append(d, [1e-12, 0.0])) == stats.wilcoxon(d).pvalue
    assert signed_rank(np.zeros(5)) == 1.0


def test_with_one_seed_the_interval_is_the_reports() -> None:
    found = made_up({"x": 0.0, "y": 0.02}, seeds=1)
    [pair] = compare(found, seed=4)
    same = paired_bootstrap(found.dice[0, 0], found.dice[1, 0], seed=4)
    assert (pair.mean, pair.low, pair.high) == pytest.approx(same, abs=1e-12)


def test_the_interval_over_pictures_agrees_with_scipys_bootstrap() -> None:
    found = made_up({"x": 0.0, "y": 0.02}, seeds=1)
    [pair] = compare(found)
    difference = found.dice[0, 0] - found.dice[1, 0]
    whole = stats.bootstrap((difference,), np.mean, method="percentile", rng=np.random.default_rng(0))
    assert (pair.low, pair.high) == pytest.approx(tuple(whole.confidence_interval), abs=0.001)


def test_seeds_that_differ_widen_the_interval() -> None:
    """A cell that is 10 points better under one seed and 10 worse under another is not better."""
    rng = np.random.default_rng(2)
    base = rng.uniform(0.3, 0.8, 80)
    swings = np.array([0.12, -0.1, 0.04])[:, None] + base
    [pair] = compare(block(rows_of({"swings": swings, "steady": np.stack([base] * 3)})))
    assert pair.p_holm < 1e-6, "every picture's mean over the seeds is 2 points better"
    assert pair.low < 0 < pair.high
    assert not pair.significant


def test_bootstrap_variance_of_one_seed_is_that_of_the_mean() -> None:
    """Var of the mean of n draws with replacement from n values is their variance / n."""
    found = made_up({"x": 0.0, "y": 0.0}, seeds=1)
    drawn = bootstrap(found)
    assert drawn.std(axis=0) == pytest.approx(found.dice[:, 0].std(axis=1) / np.sqrt(80), rel=0.03)


def test_a_planted_effect_is_found_and_the_null_is_not() -> None:
    board = leaderboard(made_up({"plain": 0.0, "same": 0.0, "good": 0.05, "also": 0.0}))
    best, *others = board.entries
    assert best.cell == "good"
    assert best.alike == ()
    assert best.difference is None
    assert all(entry.alike == tuple({2, 3, 4} - {entry.rank}) for entry in others)
    assert not any(entry.tied for entry in others)
    assert all(entry.difference and entry.difference.high < 0 for entry in others)
    assert others[0].difference.mean == pytest.approx(-5, abs=1)  # type: ignore[union-attr]


def test_false_alarms_under_the_null_stay_rare() -> None:
    """60 families of 6 comparisons without any effect: with a family-wise error of 5 % more than 8 alarms has p < 0.003."""
    rng, alarms = np.random.default_rng(9), 0
    for _ in range(60):
        dice = rng.uniform(0.3, 0.8, 40) + 0.05 * rng.standard_normal((4, 2, 40))
        alarms += any(p.significant for p in compare(block(rows_of(dict(zip("abcd", dice, strict=True)))), samples=500))
    assert alarms <= 8


def test_only_pairs_with_the_chosen_cell_are_the_family() -> None:
    found = made_up({"x": 0.0, "y": 0.01, "z": 0.02})
    board = leaderboard(found, against="x")
    assert {frozenset((pair.first, pair.second)) for pair in board.pairs} == {frozenset("xy"), frozenset("xz")}
    y = next(entry for entry in board.entries if entry.cell == "y")
    assert y.difference
    assert (y.difference.first, y.difference.second) == ("y", "x")
    assert y.difference.mean == pytest.approx(100 * (found.per_picture[1] - found.per_picture[0]).mean())
    assert y.difference.low <= y.difference.mean <= y.difference.high
    with pytest.raises(DataError, match=r"no cell 'w' among \['x', 'y', 'z'\]"):
        compare(found, against="w")


def test_only_what_all_cells_have_is_compared_and_the_rest_is_told() -> None:
    rows = rows_of({"x": np.full((2, 4), 0.5), "y": np.full((2, 4), 0.4)})
    rows.append(Row(cell="x", seed=7, per_image=rows[0].per_image))
    del rows[-2].per_image["b/003"]
    found = block(rows)
    assert (found.seeds, found.pictures) == ((0, 1), ("a/000", "b/001", "a/002"))
    assert found.left_out == ("rows whose seed not every cell has: x with seed 7", "1 pictures that not every row has")
    assert found.test_sets == {"a": [0, 2], "b": [1]}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (rows_of({"x": np.ones((1, 2))}), r"at least two cells, got \['x'\]"),
        (rows_of({"x": np.ones((1, 2))}) * 2, "cell 'x' is there twice with seed 0"),
        (rows_of({"x": np.ones((1, 2))}) + rows_of({"y": np.ones((1, 2))}, 1), "no seed is common"),
        ([Row(cell="x", per_image={"a/1": 1.0}), Row(cell="y", per_image={"a/2": 1.0})], "no picture is common"),
    ],
)
def test_what_cannot_be_compared_is_refused(rows: list[Row], words: str) -> None:
    with pytest.raises(DataError, match=words):
        block(rows)


def test_files_of_rows(tmp_path: Path) -> None:
    raw = [{"cell": "x", "settings": {"gamma": 2}, "seed": 3, "per_image": {"a/1": 0.5}, "more": 1}]
    as_list, as_lines, bad = (tmp_path / name for name in ("a.json", "b.jsonl", "c.json"))
    as_list.write_text(json.dumps(raw))
    as_lines.write_text("\n".join(map(json.dumps, raw)))
    assert read_rows(as_list) == read_rows(as_lines) == [Row.model_validate(raw[0])]
    bad.write_text('[{"cell": "x", "per_image": {"a/1": NaN}}]')
    with pytest.raises(DataError, match=r"c.json: row 0: per_image.a/1: Input should be a finite number"):
        read_rows(bad)
    with pytest.raises(DataError, match="is not there"):
        read_rows(tmp_path / "none.json")
    as_list.write_text("[")
    with pytest.raises(DataError, match="neither a list of rows in JSON nor JSON lines"):
        read_rows(as_list)
    with pytest.raises(DataError, match=r"is a folder; give the file of rows in it, masks\.json or students\.json"):
        read_rows(tmp_path)


def test_parquet_holds_the_leaderboard(tmp_path: Path) -> None:
    board = leaderboard(made_up({"x": 0.0, "y": 0.05}))
    rows = leaderboard_rows(board)
    assert parquet.read_table(write_parquet(rows, tmp_path / "a.parquet")).to_pylist() == rows
    assert ",".join(pair_rows(board)[0]) == "first,second,difference,low,high,p,p_holm,significant"
