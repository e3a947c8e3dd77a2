"""report.html: right numbers, safe with any name, sensible when parts are missing, one file that opens anywhere."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib
import numpy as np
import pytest
import zarr

from nakt_fed.errors import RunError
from nakt_fed.report import comparison, costs, filter_figures, summary, write_report
from nakt_fed.report.pictures import outline
from nakt_fed.report.run_data import FinishedRun, open_run
from nakt_fed.report.words import duration, points, size, tables
from tests.contrast import hard_to_read
from tests.nakt_fed.report_fixture import Kind, build_run

pytestmark = pytest.mark.slow

SMALL = Kind(size=32, pictures=4, views=1, tested=4, tests=("stu",), held_out=0)


class Page(HTMLParser):
    """Tags, attributes and the visible text of a page; complains about tags that are closed in the wrong order."""

    VOID = frozenset({"meta", "link", "img", "br", "path", "use", "image"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("full"))


@pytest.fixture(scope="module")
def html(finished: Path) -> str:
    return write_report(finished).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def made(tmp_path: Path, kind: Kind = SMALL) -> tuple[Path, Page]:
    run = build_run(tmp_path, kind)
    return run, Page(write_report(run).read_text(encoding="utf-8"))


def change(run: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    path = run / "results.json"
    results = json.loads(path.read_text(encoding="utf-8"))
    edit(results)
    path.write_text(json.dumps(results), encoding="utf-8")


# numbers


def result(**means: float) -> FinishedRun:
    """A run of one test set with two pictures that all have their model's Dice; teachers a and b."""
    names = {"a": "teacher:a", "b": "teacher:b", "tuned": "student+fine_tune"}
    dice = {
        names.get(name, name): {"stu": {"mean": mean, "std": 0.1, "n": 2, "per_image": {"p": mean, "q": mean}}}
        for name, mean in means.items()
    }
    sites = [{"name": name} for name in ("a", "b") if name in means]
    return FinishedRun(Path(), {"dice": dice, "sites": sites, "seed": 1, "transferal": {"kept": 1234}})


def test_headline_states_the_differences_of_the_numbers_shown() -> None:
    run = result(a=0.681, b=0.5, ensemble=0.722, student=0.712)
    assert summary.headline(run) == (
        "The student reaches 71.2\u00a0% mean Dice on stu, "
        "3.1 points above the best teacher (a, 68.1\u00a0%) and 1.0 below the ensemble."
    )


def test_headline_of_one_teacher_a_draw_and_a_fine_tuned_student() -> None:
    text = summary.headline(result(a=0.5, ensemble=0.5, student=0.5, tuned=0.6))
    assert "level with the teacher (a, 50.0\u00a0%) and level with the ensemble. Fine-tuned" in text
    assert text.endswith("it reaches 60.0\u00a0%.")


def test_headline_without_tests() -> None:
    assert (
        summary.headline(result())
        == "A student was trained on 1,234 pictures; it was not tested, as the study names no test set."
    )


def test_mean_over_test_sets_only_where_all_were_tested() -> None:
    run = result(a=0.7, student=0.6)
    run.results["dice"]["student"]["private"] = {"mean": 0.9, "std": 0.1, "n": 2, "per_image": {"r": 0.9, "s": 0.9}}
    assert comparison.mean_dice(run, "student") == pytest.approx(75)
    assert comparison.mean_dice(run, "teacher:a") is None
    teacher, student = comparison.dice_rows(run)
    assert teacher.cells[1] is None
    assert (teacher.cells[0].best, student.cells[0].best, student.mean.best) == (True, False, True)  # type: ignore[union-attr]


def test_difference_of_constants_has_no_width() -> None:
    (item,) = comparison.differences(result(a=0.5, student=0.6), "stu")
    assert (item.mean, item.low, item.high) == pytest.approx((10, 10, 10))
    assert (item.verdict, item.name, item.pictures) == ("better", "student − a", 2)


def test_differences_compare_the_same_pictures() -> None:
    run = result(a=0.5, student=0.6)
    run.results["dice"]["teacher:a"]["stu"]["per_image"] = {"q": 0.6, "p": 0.6, "other": 0.0}
    (item,) = comparison.differences(run, "stu")
    assert (item.mean, item.pictures, item.verdict) == (0, 2, "inconclusive")


def test_page_holds_every_mean_of_the_results(finished: Path, page: Page) -> None:
    dice = open_run(finished).results["dice"]
    for scores in dice.values():
        for score in scores.values():
            assert f"{100 * score['mean']:.1f}" in page.text
        assert f"{100 * fmean(score['mean'] for score in scores.values()):.1f}" in page.text


def test_counts_by_folder_add_up(finished: Path) -> None:
    run = open_run(finished)
    *folders, whole = filter_figures.counts(run)
    assert [count.folder for count in folders] == ["thyroid-ddti", "nerve-usgra"]
    for name in ("before", "views", "kept", "few_targets", "high_entropy"):
        assert getattr(whole, name) == sum(getattr(count, name) for count in folders)
    assert (whole.before, whole.views, whole.kept) == (96, 72, run.results["transferal"]["kept"])
    assert whole.before == whole.kept + whole.few_targets + whole.high_entropy


def test_ledger_sums(finished: Path) -> None:
    sums = {item.site: item for item in costs.site_sums(open_run(finished))}
    # 96 transferal pictures and 5 test sets of 10 in chunks of 16: 6 + 5 answers; the sites answer 40, 49, 58 a second
    assert [(s.chunks, s.transferal, s.tests) for s in sums.values()] == [(11, 96, 50)] * 3
    assert sums["logiq5"].rate == pytest.approx(49, rel=1e-3)
    assert sums["logiq7"].bytes_back == (96 + 50) * 700
    assert (sums["busi"].faults, sums["logiq7"].faults) == ("1 × rejected: bad_answer", "")


def test_fedavg_is_counted_for_all_sites(finished: Path) -> None:
    run = open_run(finished)
    moved = 3 * (96 + 50) * (2900 + 700)
    assert costs.fedavg_ratio(run) == pytest.approx(3 * 986_000_000 / moved)
    assert costs.bits_per_pixel(run) == pytest.approx(700 * 8 / 64**2)


# words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (31_240_000, "31.2 MB"),
        (999_700, "1.0 MB"),
        (2.958e9, "3.0 GB"),
        (986e6, "986 MB"),
    ],
)
def test_size(value: float, text: str) -> None:
    assert size(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.41, "0.4 s"), (59.7, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_duration(value: float, text: str) -> None:
    assert duration(value) == text


def test_points_have_a_true_minus_and_no_signed_zero() -> None:
    assert [points(value) for value in (3.14, -3.14, 0.04, -0.04)] == ["+3.1", "−3.1", "0.0", "0.0"]


def test_every_setting_is_listed(finished: Path) -> None:
    shown = {name: dict(rows) for name, rows in tables(open_run(finished).settings)}
    assert shown["site busi"]["teacher.network"] == "panoptic_fpn"
    assert shown["filter"]["max_entropy"] == "2.5"
    assert shown["site busi"]["teacher.checkpoint"] == "not set"
    assert {"study", "transferal", "fusion", "round", "student", "fine_tune", "test stu", "resources"} <= set(shown)


# pictures


def test_outline_runs_half_way_between_in_and_out() -> None:
    mask = np.zeros((10, 10), np.uint8)
    mask[2:5, 3:8] = 255  # rows 2..4, columns 3..7: edges at 30 and 80, 20 and 50 of 100
    xy = np.array([[float(v) for v in pair.split(",")] for pair in re.findall(r"[\d.]+,[\d.]+", outline(mask))])
    assert xy.min(axis=0) == pytest.approx([30, 20], abs=0.1)
    assert xy.max(axis=0) == pytest.approx([80, 50], abs=0.1)


def test_outline_closes_at_the_border_and_is_empty_for_nothing() -> None:
    assert outline(np.full((8, 8), 255, np.uint8)).endswith("Z")
    assert outline(np.zeros((8, 8), np.uint8)) == ""


def test_examples_are_typical_and_views_are_called_views(finished: Path) -> None:
    run = open_run(finished)
    found = filter_figures.examples(run)
    assert [example.rule for example in found] == list(filter_figures.RULES.values())
    views = [verdict for verdict in run.verdicts if run.is_view(verdict.id)]
    chosen = filter_figures.typical(run, views)
    assert chosen is not None
    assert run.is_view(chosen.id)
    assert "view in" in write_report(finished).read_text(encoding="utf-8")


def test_a_file_that_looks_like_a_view_is_none(tmp_path: Path) -> None:
    run, _ = made(tmp_path, replace(SMALL, views=0))
    path = run / "manifest.json"
    path.write_text(
        path.read_text(encoding="utf-8").replace("thyroid-ddti/0001", "thyroid-ddti/scan~001"), encoding="utf-8"
    )
    assert not open_run(run).is_view("thyroid-ddti/scan~001")


def test_private_pictures_are_never_named(html: str) -> None:
    assert "stu/case" in html  # the coordinator's own
    for site in Kind().sites:
        assert f"{site}/case" not in html


# the file


def test_self_contained(html: str, page: Page) -> None:
    assert not page.all("script")
    assert all(
        value in (None, "data:,") or value.startswith(("#", "data:image/jpeg;base64,"))
        for _, a in page.tags
        for value in (a.get("href"), a.get("src"))
    )
    assert "url(http" not in html
    assert "@import" not in html
    assert "default-src 'none'" in html
    assert len(html) < 1_000_000


def test_ids_are_unique_and_links_lead_somewhere(page: Page) -> None:
    ids = [attrs["id"] for _, attrs in page.tags if attrs.get("id")]
    assert len(ids) == len(set(ids))
    links = {str(attrs["href"])[1:] for tag, attrs in page.tags if tag in ("a", "use") and attrs.get("href")}
    assert links <= set(ids)


def test_accessible(page: Page) -> None:
    assert all(attrs.get("alt") for attrs in page.all("img"))
    assert all(attrs.get("aria-label") for attrs in page.all("svg") if attrs.get("role") == "img")
    assert all(attrs.get("role") == "img" or attrs.get("aria-hidden") for attrs in page.all("svg"))
    assert all(attrs.get("scope") for attrs in page.all("th"))
    assert len(page.all("h1")) == 1
    assert page.all("html")[0]["lang"] == "en"


def test_written_twice_alike_and_nothing_is_left_beside(finished: Path, html: str) -> None:
    assert write_report(finished).read_text(encoding="utf-8") == html
    assert not list(finished.glob("*.part"))


def test_a_notebook_keeps_its_matplotlib_settings(finished: Path) -> None:
    before = dict(matplotlib.rcParams)
    write_report(finished)
    assert dict(matplotlib.rcParams) == before


@pytest.mark.slow
def test_stays_small_with_noise_at_full_size(tmp_path: Path) -> None:
    """Masks of pure noise have the longest outlines there can be."""
    run = build_run(tmp_path, replace(SMALL, size=384, tests=("a", "b", "c")))
    rng = np.random.default_rng(0)
    for test in ("a", "b", "c"):
        masks = zarr.open_group(str(run / "tests" / test / "masks.zarr"), mode="a")["masks"]
        for _, array in masks.arrays():  # type: ignore[union-attr]
            array[:] = rng.integers(0, 256, array.shape, dtype=np.uint8)
    assert write_report(run).stat().st_size < 3_000_000


# names


HOSTILE = [
    "<script>alert(1)<",
    '"><img src=x onerror=alert(1)>',
    r"$\frac$ \1 {{ 7*7 }} &amp;",
    "乳腺 ultrasons",
    "a" * 200,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_folder_names_are_escaped(name: str, tmp_path: Path) -> None:
    """Folders are named by whoever made them, and stand in ids, tables, captions and charts."""
    _, page = made(tmp_path, replace(SMALL, folders=("plain", name)))
    assert not page.all("script")
    assert all("onerror" not in attrs for _, attrs in page.tags)
    assert name in page.text


def test_study_site_and_reason_are_escaped(tmp_path: Path) -> None:
    run = build_run(tmp_path, SMALL)
    evil = "<script>alert('x')</script>"

    def edit(results: dict[str, Any]) -> None:
        results["study"] = evil
        results["sites"][0]["name"] = evil
        results["weights"][evil] = 0.3
        results["dice"][f"teacher:{evil}"] = results["dice"].pop("teacher:logiq7")
        results["set_aside"] = {evil: evil}
        results["fedavg_bytes"]["formula"] = evil
        results["settings"]["student"]["storage"] = evil

    change(run, edit)
    html = write_report(run).read_text(encoding="utf-8")
    assert not Page(html).all("script")
    assert "<script" not in html
    assert f"Site {evil} was set aside" in Page(html).text


def test_a_weight_that_differs_from_picture_to_picture(tmp_path: Path) -> None:
    run = build_run(tmp_path, SMALL)

    def edit(results: dict[str, Any]) -> None:
        results["weights"] = dict.fromkeys(results["weights"]) | {"eve": None}
        results["set_aside"], results["answered"]["eve"] = {"eve": "unreachable"}, 5

    change(run, edit)
    text = Page(write_report(run).read_text(encoding="utf-8")).text
    assert "varies" in text
    assert "these answers count." in text


@pytest.mark.parametrize(("weight", "told"), [(0.2, "these answers count, with a weight of 0.200"), (None, "not used")])
def test_what_had_come_of_a_site_that_went_away(tmp_path: Path, weight: float | None, told: str) -> None:
    run = build_run(tmp_path, SMALL)

    def edit(results: dict[str, Any]) -> None:
        results["set_aside"], results["answered"]["eve"] = {"eve": "unreachable"}, 5
        results["weights"] |= {"eve": weight} if weight else {}

    change(run, edit)
    text = Page(write_report(run).read_text(encoding="utf-8")).text
    assert "It had answered 5 of the" in text
    assert told in text


# missing parts


def test_no_tests(tmp_path: Path) -> None:
    _, page = made(tmp_path, replace(SMALL, tests=()))
    assert "names no test set" in page.text
    assert "gallery" not in {attrs.get("id") for attrs in page.all("h2")}


def test_no_filter(tmp_path: Path) -> None:
    _, page = made(tmp_path, replace(SMALL, filter=False))
    assert "The filter was off" in page.text
    assert "threshold\n" not in page.text


def test_binary_teachers_have_no_entropy(tmp_path: Path) -> None:
    run, page = made(tmp_path, replace(SMALL, binary=True))
    assert {verdict.E for verdict in open_run(run).verdicts} == {None}
    assert "the entropy rule does not apply" in page.text
    assert "entropy E, bits" not in page.text


def test_no_fine_tuning_and_loaded_teachers(tmp_path: Path) -> None:
    _, page = made(tmp_path, replace(SMALL, fine_tune=False, checkpoints=True))
    assert "fine-tuned" not in page.text.lower()
    assert "loaded from a checkpoint" in page.text


def test_one_site_one_folder_no_views(tmp_path: Path) -> None:
    _, page = made(tmp_path, replace(SMALL, sites=("solo",), folders=("f",), views=0))
    assert "above the teacher (solo" in page.text or "below the teacher (solo" in page.text
    assert "view" not in page.text.split("Settings and versions")[0]


def test_many_sites(tmp_path: Path) -> None:
    _, page = made(tmp_path, replace(SMALL, sites=tuple(f"site-{i}" for i in range(12))))
    assert "Of 12 sites the first 8 are shown" in page.text
    assert "4 more were trained and are not drawn" in page.text


def test_stores_removed(tmp_path: Path) -> None:
    run = build_run(tmp_path, SMALL)
    for store in list(run.rglob("*.zarr")):
        shutil.rmtree(store)
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert not page.all("img")
    assert "Dice, mean ± standard deviation" in page.text


def test_what_the_sites_told_of_the_student(page: Page) -> None:
    for words in ("1,234", "76.5", "65.4", "refused: no_evaluation"):
        assert words in page.text


def test_what_the_sites_told_of_the_personalised_student(page: Page) -> None:
    for words in ("Personalised at the sites", "321", "61.2", "72.3", "83.5", "refused: no_personalisation"):
        assert words in page.text


def test_a_run_of_before_sites_judged_the_student(tmp_path: Path) -> None:
    run = build_run(tmp_path, SMALL)
    change(run, lambda results: [results.pop(name) for name in ("at_sites", "personalised")])
    text = Page(write_report(run).read_text(encoding="utf-8")).text
    assert "own private pictures, mean" not in text
    assert "Personalised" not in text


def test_resumed_run_with_a_cut_ledger_and_untold_numbers(tmp_path: Path) -> None:
    run = build_run(tmp_path, SMALL)
    with (run / "ledger.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"time": "2026-01-0')

    def edit(results: dict[str, Any]) -> None:
        results["overlaps"] = {}
        results["sites"][0] |= {"validation_dice": None, "n_images": 0}

    change(run, edit)
    assert Page(write_report(run).read_text(encoding="utf-8")).text.count("not told") == 5


def test_renamed_folder_has_no_time(tmp_path: Path) -> None:
    run = build_run(tmp_path, SMALL).rename(tmp_path / "kept for the paper")
    assert open_run(run).started is None
    assert "run of" not in write_report(run).read_text(encoding="utf-8")


# not a run


def test_not_a_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a folder; give the folder of a run"):
        write_report(tmp_path / "nowhere")


def test_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"neither results\.json nor study\.toml"):
        write_report(tmp_path)


def test_unfinished(tmp_path: Path) -> None:
    run = build_run(tmp_path, SMALL)
    (run / "results.json").unlink()
    with pytest.raises(RunError, match=r"is not finished.*nakt run --resume"):
        write_report(run)
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("content", "message"), [("{", "not valid JSON.*--resume"), ('{"version": 2}', "version 2, expected 1")]
)
def test_results_that_cannot_be_read(content: str, message: str, tmp_path: Path) -> None:
    run = build_run(tmp_path, SMALL)
    (run / "results.json").write_text(content, encoding="utf-8")
    with pytest.raises(RunError, match=message):
        write_report(run)


def test_no_manifest(tmp_path: Path) -> None:
    run = build_run(tmp_path, SMALL)
    (run / "manifest.json").unlink()
    with pytest.raises(RunError, match=r"manifest\.json is missing"):
        write_report(run)


# in a browser


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_in_chromium(browser: Any, finished: Path, html: str, scheme: str, width: int) -> None:
    """Nothing is requested but the file, nothing said on the console; it fits, is readable, shows its pictures."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
    page, requests, said = context.new_page(), [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto((finished / "report.html").as_uri())
    assert [url for url in requests if not url.startswith("data:")] == [(finished / "report.html").as_uri()]
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    assert hard_to_read(page, "body", ".note", "figcaption", "a", ".best", "thead th") == {}
    assert len(page.screenshot(timeout=120_000)) > 10_000
    context.close()


@pytest.mark.slow
def test_prints_light_and_complete(browser: Any, finished: Path, html: str, tmp_path: Path) -> None:
    """A dark screen still prints on white paper, settings included, tables whole on the page."""
    page = browser.new_page(color_scheme="dark")
    page.goto((finished / "report.html").as_uri())
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("document.querySelector('details table').checkVisibility({contentVisibilityAuto: true})")
    assert page.evaluate("getComputedStyle(document.querySelector('.scroll')).breakInside") == "avoid"
    pdf = page.pdf(path=str(tmp_path / "report.pdf"), prefer_css_page_size=True)
    assert pdf.startswith(b"%PDF")
    assert 4 <= pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") <= 30
    page.close()
