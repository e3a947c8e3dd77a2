import copy
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from nakt_fed.errors import StudyError
from nakt_fed.study import FederatedStudy, Study
from nakt_fed.study.file import checked_parts, dump_study, load_federated, load_study, parse_study
from nakt_fed.study.inspect import inspect_study
from nakt_fed.study.learners import TeacherSpec

BASE = Path("/studies")
RAW: dict[str, Any] = {
    "study": {"name": "breast", "seed": 7, "image_size": 96},
    "site": [
        {"name": "ann", "images": "ann/images", "masks": "ann/masks", "teacher": {"network": "unet"}},
        {"name": "bob", "images": "/bob", "teacher": {"network": "sdunet", "checkpoint": "bob.safetensors"}},
    ],
    "transferal": {"images": ["organ"]},
    "student": {"network": "deeplabv3plus"},
}

Place = tuple[str | int, ...]


def put(place: Place, value: Any, raw: dict[str, Any] = RAW) -> dict[str, Any]:
    """RAW with another value at `place`; tables on the way are made."""
    raw = copy.deepcopy(raw)
    parent: Any = raw
    for key in place[:-1]:
        parent = parent[key] if isinstance(key, int) else parent.setdefault(key, {})
    parent[place[-1]] = value
    return raw


def parse(raw: dict[str, Any]) -> Study:
    return parse_study(raw, BASE, "breast.toml")


def refusal(raw: dict[str, Any]) -> str:
    with pytest.raises(StudyError) as caught:
        parse(raw)
    return str(caught.value)


def test_paths_are_taken_from_the_studys_folder() -> None:
    study = parse(RAW)
    assert study.site[0].images == Path("/studies/ann/images")
    assert study.site[1].images == Path("/bob")
    assert study.site[1].teacher.checkpoint == Path("/studies/bob.safetensors")
    assert study.transferal.images == [Path("/studies/organ")]


def test_a_home_that_is_not_there_is_refused() -> None:
    assert "Write it without ~" in refusal(put(("transferal", "images"), ["~nobody-of-this-name/organ"]))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (("studdy",), "studdy: unknown key; did you mean 'study'?"),
        (("study", "sede"), "study.sede: unknown key; did you mean 'seed'?"),
        (("site", 1, "image"), "site[1].image: unknown key; did you mean 'images'?"),
        (("site", 0, "teacher", "epoch"), "site[0].teacher.epoch: unknown key; did you mean 'epochs'?"),
        (("transferal", "view"), "transferal.view: unknown key; did you mean 'views'?"),
        (("filter", "max_entropie"), "filter.max_entropie: unknown key; did you mean 'max_entropy'?"),
        (("student", "learning_rte"), "student.learning_rte: unknown key; did you mean 'learning_rate'?"),
        (("fine_tune", "epoch"), "fine_tune.epoch: unknown key; did you mean 'epochs'?"),
        (("fusion", "zzz"), "fusion.zzz: unknown key; known here: annotated, options, weighting, weights"),
    ],
)
def test_unknown_key_suggests_the_nearest(place: Place, message: str) -> None:
    assert f"  {message}\n" in refusal(put(place, 3)) + "\n"


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("study", "name"), "../breast", "study.name: a name has at most 64 letters, digits, "),
        (("study", "name"), "a" * 65, "study.name: a name has at most 64 letters, digits, "),
        (("study", "name"), "Brust 2", 'no spaces, and does not begin with "." or "-" (got \'Brust 2\')'),
        (("site", 0, "name"), "-x", 'does not begin with "." or "-" (got \'-x\')'),
        (("study", "seed"), -1, "study.seed: Input should be greater than or equal to 0 (got -1)"),
        (
            ("study", "image_size"),
            100,
            "study.image_size: must be a multiple of 32, the stride of the deepest encoder; nearest is 96 (got 100)",
        ),
        (("study", "image_size"), 31, "study.image_size: Input should be greater than or equal to 32"),
        (("study", "preset"), "fast", "study.preset: Input should be 'default' or 'paper' (got 'fast')"),
        (("site",), [], "site: List should have at least 1 item"),
        (("site", 0, "test_share"), 1, "site[0].test_share: Input should be less than 1"),
        (("site", 0, "name"), "bob", "two sites are called 'bob'; give each its own name"),
        (
            ("site", 0, "name"),
            "student",
            "a site cannot be called 'student': the results use that name; rename the site",
        ),
        (("site", 0, "images"), "a\0b", "has a path that no folder can have: embedded null byte; correct it"),
        (("site", 0, "name"), "Ensemble", "a site cannot be called 'Ensemble'"),
        (("site", 0, "name"), "ensemble", "a site cannot be called 'ensemble'"),
        (
            ("site", 1, "teacher", "checkpoint"),
            None,
            "'bob' has neither masks to train its teacher with nor teacher.checkpoint; give one of them",
        ),
        (
            ("site", 1, "test_share"),
            0.2,
            "'bob' has a test_share but no masks to test against; give masks, or remove test_share",
        ),
        (("site", 0, "teacher", "width"), 1, "site[0].teacher.width: Input should be greater than or equal to 2"),
        (("site", 0, "teacher", "classes"), 2, "site[0]: teacher.classes is 2, but site 'ann' knows 1 class"),
        (("site", 0, "teacher", "network"), 3, "site[0].teacher.network: Input should be a text, in quotes (got 3)"),
        (("site", 0, "teacher", "epochs"), 0, "site[0].teacher.epochs: Input should be greater than or equal to 1"),
        (
            ("site", 0, "teacher", "batch_size"),
            0,
            "site[0].teacher.batch_size: Input should be greater than or equal to 1",
        ),
        (
            ("site", 0, "teacher", "schedule"),
            "step",
            "site[0].teacher.schedule: Input should be 'constant' or 'cosine'",
        ),
        (("site", 0, "teacher", "keep"), "all", "site[0].teacher.keep: Input should be 'best' or 'last'"),
        (("transferal", "images"), [], "transferal.images: List should have at least 1 item"),
        (
            ("transferal", "images"),
            "organ",
            "Input should be a list; write it in brackets, [...], also where there is only one (got 'organ')",
        ),
        (("transferal", "views"), 1000, "transferal.views: Input should be less than or equal to 999"),
        (("transferal", "mix"), 1.5, "transferal.mix: Input should be less than or equal to 1"),
        (("transferal", "duplicates"), "keep", "transferal.duplicates: Input should be 'refuse' or 'drop'"),
        (("fusion", "weighting"), "unifrm", "fusion.weighting: unknown weighting 'unifrm'; did you mean 'uniform'?"),
        (("fusion", "weighting"), "zzz", "unknown weighting 'zzz'; known here: uniform, n_images, "),
        (("fusion", "weighting"), "fixed", "needs a weight for each of ['ann', 'bob'], got []"),
        (("filter", "max_entropy"), 9, "filter.max_entropy: Input should be less than or equal to 8"),
        (("filter", "min_kept"), 0, "filter.min_kept: Input should be greater than or equal to 1"),
        (("round", "chunk_mb"), 0, "round.chunk_mb: Input should be greater than 0"),
        (("round", "near"), 9, "round.near: Input should be less than or equal to 8"),
        (("round", "min_sites"), 3, "round.min_sites is 3, but the study has 2 sites; lower it"),
        (
            ("student", "learning_rate"),
            1000,
            "student.learning_rate: Input should be less than or equal to 1 (got 1000)",
        ),
        (("filter", "min_target_pixels"), 200_000, "min_target_pixels: Input should be less than or equal to 147456"),
        (("student", "workers"), 9, "student: 9 workers share a batch of 8 pictures (batch_size), so some would only"),
        (("student", "learning_rate"), 0, "student.learning_rate: Input should be greater than 0"),
        (
            ("student", "learning_rate"),
            "fast",
            "student.learning_rate: Input should be a number, without quotes (got 'fast')",
        ),
        (("student", "learning_rate"), float("nan"), "student.learning_rate: Input should be a finite number"),
        (("round", "site_timeout"), float("inf"), "round.site_timeout: Input should be a finite number"),
        (
            ("fusion", "options"),
            {"gamma": [1]},
            "fusion.options.gamma: an option is true, false, a finite number or a text",
        ),
        (("site", 0, "masks"), 3, "site[0].masks: write a folder, or a table of one folder per class"),
        (("site", 0, "name"), "BOB", "the sites 'BOB' and 'bob' differ only in how they are written"),
        (("student", "width"), 4096, "student.width: Input should be less than or equal to 512"),
        (("student", "ema"), 1, "student.ema: Input should be less than 1"),
        (("student", "augment"), "all", "student.augment: Input should be 'paper', 'flip' or 'none'"),
        (("student", "workers"), 0, "student.workers: Input should be greater than or equal to 1"),
        (("student",), {}, "student.network: missing; add it"),
        (("transferal",), 5, "transferal: Input should be a table"),
        (
            ("fine_tune",),
            {"epochs": 3},
            "fine_tune: needs annotated pictures: give images and masks of the coordinator's",
        ),
        (("fine_tune",), {"images": "few"}, "fine_tune: has images but no masks; give both folders"),
        (("fine_tune",), {"at_sites": True}, "no site has a test_share"),
        (("fine_tune",), {"epochs": 3, "at_sites": False}, "or at_sites = true for the private ones of the sites"),
        (("resources", "site_threads"), 0, "resources.site_threads: Input should be greater than or equal to 1"),
    ],
)
def test_impossible_value_is_refused_with_its_key(place: Place, value: Any, message: str) -> None:
    told = refusal(put(place, value))
    assert told.startswith(("breast.toml cannot be used:\n", "breast.toml has a path"))
    assert message in told


WHOLE, NUMBER = "a whole number, without quotes or decimal point", "a number, without quotes"
SWITCH, TEXT, PATH = "true or false, without quotes", "a text, in quotes", "the path of a file or folder, in quotes"


@pytest.mark.parametrize(
    ("line", "expected", "came"),
    [
        ("study.seed = 7.0", WHOLE, "7.0"),
        ("study.seed = true", WHOLE, "true"),
        ('study.image_size = "96"', WHOLE, "'96'"),
        ("study.image_size = 96.0", WHOLE, "96.0"),
        ("student.epochs = true", WHOLE, "true"),
        ('student.epochs = "5"', WHOLE, "'5'"),
        ("student.epochs = 2024-01-01", WHOLE, "2024-01-01"),
        ("round.min_sites = 1.0", WHOLE, "1.0"),
        ('student.learning_rate = "1e-3"', NUMBER, "'1e-3'"),
        ("student.learning_rate = true", NUMBER, "true"),
        ("filter.max_entropy = false", NUMBER, "false"),
        ("filter.enabled = 1", SWITCH, "1"),
        ('filter.enabled = "yes"', SWITCH, "'yes'"),
        ("student.calibrate = 0", SWITCH, "0"),
        ("student.network = true", TEXT, "true"),
        ("transferal.images = [3]", PATH, "3"),
    ],
)
def test_a_value_of_another_type_is_refused(line: str, expected: str, came: str) -> None:
    table, key = line.split(" = ")[0].split(".")
    raw = put((table, key), tomllib.loads(line)[table][key])
    place = f"{table}.{key}" + ("[0]" if "[" in line else "")
    assert refusal(raw) == f"breast.toml cannot be used:\n  {place}: Input should be {expected} (got {came})"


def test_a_whole_number_may_stand_for_any_number() -> None:
    assert parse(put(("student", "learning_rate"), 1)).student.learning_rate == 1.0
    assert parse(put(("round", "site_timeout"), 60)).round.site_timeout == 60.0


def test_brackets_that_are_missing_are_told() -> None:
    one = put(("site",), RAW["site"][0])
    assert "  site: Input should be a list of tables; write [[site]], with two brackets on each side" in refusal(one)


@pytest.mark.parametrize("table", Study.model_fields)
def test_every_key_is_in_the_docs(table: str) -> None:
    page = (Path(__file__).parents[3] / "docs" / "simulate.md").read_text(encoding="utf-8")
    annotation = Study.model_fields[table].annotation
    model = next(kind for kind in (annotation, *get_args(annotation)) if hasattr(kind, "model_fields"))
    keys = {*model.model_fields, *(TeacherSpec.model_fields if table == "site" else ())}
    assert not [key for key in keys if f"`{key}`" not in page]


def test_all_faults_are_told_at_once() -> None:
    assert refusal(put(("study", "seed"), -1, put(("studnet",), 1))).count("\n  ") == 2


def test_two_test_sets_of_one_name_are_refused() -> None:
    shared = put(("site", 0, "test_share"), 0.2)
    shared["test"] = [{"name": "ann", "images": "a", "masks": "b"}]
    assert "two test sets are called 'ann'" in refusal(shared)


@pytest.mark.parametrize("table", ["study", "transferal", "student"])
def test_a_missing_table_is_named(table: str) -> None:
    assert f"  {table}: missing; add it" in refusal({key: value for key, value in RAW.items() if key != table})


def test_tests_are_the_sites_shares_and_then_the_coordinators() -> None:
    raw = put(("site", 0, "test_share"), 0.2)
    raw["test"] = [{"name": "stu", "images": "a", "masks": "b"}]
    assert parse(raw).test_names == ["ann", "stu"]


def test_without_a_number_every_site_must_stay() -> None:
    assert parse(RAW).min_sites == 2
    assert parse(put(("round", "min_sites"), 1)).min_sites == 1


@pytest.mark.parametrize(("views", "augment"), [(None, "flip"), (20, "flip"), (1, "flip"), (0, "paper")])
def test_views_are_not_bent_again(views: int | None, augment: str) -> None:
    raw = RAW if views is None else put(("transferal", "views"), views)
    assert parse(raw).student.augment == augment
    assert parse(put(("student", "augment"), "none", raw)).student.augment == "none"
    assert all(site.teacher.augment == "paper" for site in parse(raw).site)


def paper() -> dict[str, Any]:
    raw = put(("study", "preset"), "paper")
    raw["fine_tune"] = {"images": "few/images", "masks": "few/masks"}
    return raw


def test_the_papers_preset() -> None:
    """DESIGN §3: Adam 1e-4, batch 4, teachers 500 epochs, student on thyroid 175, fine-tuning 50; the filter's α and β; no views."""
    study = parse(paper())
    recipes = [site.teacher.recipe() for site in study.site] + [study.student.recipe(), study.fine_tune.recipe()]  # type: ignore[union-attr]
    assert [recipe.epochs for recipe in recipes] == [500, 500, 175, 50]
    assert {(recipe.learning_rate, recipe.batch_size, recipe.schedule, recipe.augment) for recipe in recipes} == {
        (1e-4, 4, "constant", "paper")
    }
    assert study.transferal.views == 0
    assert (study.filter.enabled, study.filter.min_target_pixels, study.filter.max_entropy) == (True, 256, 2.5)


def test_the_users_own_keys_win_over_the_preset() -> None:
    raw = put(
        ("site", 0, "teacher", "epochs"),
        3,
        put(("student", "learning_rate"), 0.01, put(("transferal", "views"), 5, paper())),
    )
    study = parse(raw)
    assert (study.site[0].teacher.epochs, study.site[1].teacher.epochs) == (3, 500)
    assert (study.student.learning_rate, study.student.batch_size, study.transferal.views) == (0.01, 4, 5)


def test_parsing_leaves_the_users_dict_alone() -> None:
    raw = paper()
    before = copy.deepcopy(raw)
    parse(raw)
    assert raw == before


def full() -> dict[str, Any]:
    raw = paper()
    raw["test"] = [{"name": "stü", "images": "a b/ä", "masks": "c"}]
    raw["fusion"] = {"weighting": "fixed", "weights": {"ann": 0.25, "bob": 3}}
    return raw


@pytest.mark.parametrize("raw", [RAW, full()], ids=["shortest", "fullest"])
def test_a_dump_loads_equal(tmp_path: Path, raw: dict[str, Any]) -> None:
    study = parse(raw)
    (tmp_path / "study.toml").write_text(dump_study(study), encoding="utf-8")
    assert load_study(tmp_path / "study.toml") == study


@given(st.integers(0, 999), st.floats(0, 1), st.floats(1e-9, 1), st.floats(1e-6, 64), st.booleans())
@settings(max_examples=25, deadline=None)
def test_a_dump_parses_equal(views: int, mix: float, rate: float, chunk: float, enabled: bool) -> None:
    raw = put(("transferal",), {"images": ["o"], "views": views, "mix": mix}, put(("round", "chunk_mb"), chunk))
    study = parse(put(("student", "learning_rate"), rate, put(("filter", "enabled"), enabled, raw)))
    assert parse_study(tomllib.loads(dump_study(study)), Path("/elsewhere")) == study


@pytest.mark.parametrize(
    ("size", "mb", "count", "pictures"),
    [
        (384, 8, 10_000, 54),  # 8,000,000 / 147,456 = 54.3
        (96, 8, 10_000, 868),  # 8,000,000 / 9,216 = 868.1
        (96, 8, 3570, 447),  # an eighth of the set
        (96, 8, 30, 16),  # not less than 16 pictures
        (96, 0.09216, 30, 10),  # but for who says so
        (2048, 1, 30, 1),  # a picture alone is larger
        (32, 64, 10**6, 4096),  # what a site takes
    ],
)
def test_chunks_are_sized_by_bytes(size: int, mb: float, count: int, pictures: int) -> None:
    study = parse(put(("round", "chunk_mb"), mb, put(("study", "image_size"), size)))
    assert study.chunk(count) == pictures


@given(st.floats(1e-6, 64), st.integers(1, 64), st.integers(1, 10**6))
def test_a_large_set_is_never_less_than_eight_chunks(mb: float, strides: int, count: int) -> None:
    chunk = parse(put(("round", "chunk_mb"), mb, put(("study", "image_size"), 32 * strides))).chunk(count)
    assert 1 <= chunk <= max(16, count / 8 + 1)
    assert chunk == 1 or chunk * (32 * strides) ** 2 <= mb * 1e6 + 1


def test_a_dump_writes_every_default_out() -> None:
    dumped = tomllib.loads(dump_study(parse(RAW)))
    assert dumped["filter"] == {"enabled": True, "min_target_pixels": 256, "max_entropy": 2.5, "min_kept": 16}
    assert dumped["student"]["schedule"] == "cosine"
    assert dumped["resources"]["student_threads"] >= 1


def test_files_that_are_no_study(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("[study\n")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe4"')
    for name, message in [
        ("none.toml", "is not there; check the path"),
        (".", "is a folder; give the study file"),
        ("broken.toml", "is not valid TOML: .*line 1.*; mend that line"),
        ("latin.toml", "is not valid TOML: .*; save it as UTF-8"),
    ]:
        with pytest.raises(StudyError, match=message):
            load_study(tmp_path / name)


def test_a_file_in_a_folder_with_spaces_and_umlauts(tmp_path: Path) -> None:
    folder = tmp_path / "Größe und mehr"
    folder.mkdir()
    (folder / "study.toml").write_text(
        dump_study(parse(RAW)).replace("/studies/organ", "Schild drüse"), encoding="utf-8"
    )
    assert load_study(folder / "study.toml").transferal.images == [folder / "Schild drüse"]


def test_a_part_of_its_own_follows_the_same_rules() -> None:
    network, recipe, size = checked_parts({"network": "unet"}, {"epochs": 3}, 64)
    assert (network.network, recipe.epochs, size) == ("unet", 3, 64)
    parts: list[tuple[dict[str, Any], dict[str, Any], int]] = [
        ({"network": "unet", "width": 1}, {}, 64),
        ({"network": "unet"}, {"epochs": 0}, 64),
        ({"network": "unet"}, {}, 65),
    ]
    for bad in parts:
        with pytest.raises(StudyError, match=r"this cannot be trained:\n  (width|epochs|image_size): "):
            checked_parts(*bad)


def test_a_study_whose_sites_are_only_named_is_for_a_deployment(tmp_path: Path) -> None:
    named = {**RAW, "site": [{"name": "ann"}, {"name": "bob"}]}
    study = parse(named)
    assert isinstance(study, FederatedStudy)
    assert study.site_names == ["ann", "bob"]
    (tmp_path / "study.toml").write_text(dump_study(study), encoding="utf-8")
    assert load_study(tmp_path / "study.toml") == study


def test_of_a_whole_study_a_deployment_takes_the_names(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(tomli_w.dumps(RAW), encoding="utf-8")
    study = load_federated(tmp_path / "study.toml")
    assert [site.name for site in study.site] == ["ann", "bob"]
    assert {*study.site[0].model_dump()} == {"name", "classes"}


def test_a_named_site_cannot_be_simulated() -> None:
    with pytest.raises(StudyError, match="only names its sites"):
        inspect_study(parse({**RAW, "site": [{"name": "ann"}]}))


def test_pictures_may_be_missing_only_where_the_teacher_is_from_a_checkpoint() -> None:
    site = {"name": "ann", "teacher": {"network": "unet", "checkpoint": "a.safetensors"}}
    assert parse({**RAW, "site": [site]}).site[0].images is None
    assert "site 'ann' has no images" in refusal({**RAW, "site": [{**site, "masks": "m"}]})
