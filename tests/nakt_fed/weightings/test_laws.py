"""What holds for every scheme, and what is refused before anything is combined."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nakt_fed.errors import StudyError
from nakt_fed.study import Study
from nakt_fed.study.tables import FusionSpec
from nakt_fed.weightings import BUILT_IN, find
from nakt_fed.weightings.bound import Combiner
from nakt_fed.weightings.check import refuse_combination
from nakt_fed.weightings.mean import weighted_mean
from nakt_fed.weightings.pools import _sharper
from nakt_fed.weightings.scheme import weighting
from tests.tiny import tiny_study

Masks = NDArray[np.uint8]
SHAPE = (3, 3, 2)
NAMES = ("ann", "bob", "cleo", "dora", "eve")
BINARY = {"majority", "staple"}
"""These give a mask at one half, also of one site or of equal ones."""
SUMS = {"uniform", "n_images", "validation", "fixed", "confidence", "variance", "majority", "geometric_mean", "era"}
UNLIKE = {"n_images", "fixed", "learned"}
"""These know the sites apart by more than their answers."""
few = settings(max_examples=12, deadline=None)
masks = st.binary(min_size=18, max_size=18).map(lambda pixels: np.frombuffer(pixels, np.uint8).reshape(SHAPE))
answers = st.integers(1, 5).flatmap(lambda count: st.fixed_dictionaries(dict.fromkeys(NAMES[:count], masks)))


@dataclass(frozen=True)
class Kept:
    """The answers themselves, as chunks and as the annotated set (the truth is the first site's mask)."""

    soft: Mapping[str, Masks]

    def chunks(self) -> Iterator[Mapping[str, Masks]]:
        yield self.soft

    def annotated(self) -> Iterator[tuple[Mapping[str, Masks], Masks]]:
        yield self.soft, (next(iter(dict(sorted(self.soft.items())).values())) > 127).astype(np.uint8) * np.uint8(255)


def combined(name: str, soft: Mapping[str, Masks], whole: Mapping[str, Masks] | None = None) -> Masks:
    fusion = FusionSpec(weighting=name, weights={site: 1 + place for place, site in enumerate(NAMES)})
    told = {site: {"binary": False, "n_images": 5 + k, "validation_dice": 0.5} for k, site in enumerate(sorted(soft))}
    cards = {site: told[site] for site in soft}
    return Combiner(fusion, cards, lambda: Kept(whole or soft))(soft)


def expected(name: str, mask: Masks) -> Masks:
    """What a scheme makes of one site's mask."""
    if name == "era":
        return _sharper(1, 0.1)[mask]
    return np.where(mask > 127, 255, 0).astype(np.uint8) if name in BINARY else mask


@pytest.mark.parametrize("name", BUILT_IN)
@few
@given(answers, st.randoms())
def test_neither_order_nor_chunks_matter(name: str, soft: dict[str, Masks], dice: Any) -> None:
    names = list(soft)
    dice.shuffle(names)
    found = combined(name, soft)
    assert (found.dtype, found.shape) == (np.uint8, SHAPE)
    np.testing.assert_array_equal(combined(name, {site: soft[site] for site in names}), found)
    parts = [combined(name, {site: mask[i : i + 1] for site, mask in soft.items()}, soft) for i in range(3)]
    np.testing.assert_array_equal(np.concatenate(parts), found)


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name not in UNLIKE])
@few
@given(answers, st.randoms())
def test_who_gave_which_answer_does_not_matter(name: str, soft: dict[str, Masks], dice: Any) -> None:
    """Up to the fixed point, whose last unit goes by name."""
    given = list(soft.values())
    dice.shuffle(given)
    swapped = combined(name, dict(zip(soft, given, strict=True)))
    assert np.abs(swapped.astype(int) - combined(name, soft)).max() <= 1


def test_staple_between_two_equally_likely_truths_is_not_decided_by_the_order_of_the_sites() -> None:
    """Six pixels on which five sites contradict each other: the last bit of a sum would choose."""
    votes = ["110000", "110100", "001000", "100011", "100010"]
    given = [np.array([255 * int(vote) for vote in row], np.uint8).reshape(1, 3, 2) for row in votes]
    found = combined("staple", dict(zip(NAMES, given, strict=True)))
    swapped = combined("staple", dict(zip(NAMES, [given[k] for k in (0, 3, 1, 2, 4)], strict=True)))
    np.testing.assert_array_equal(swapped, found)


@pytest.mark.parametrize("name", BUILT_IN)
@few
@given(masks, st.integers(1, 5))
def test_equal_sites_are_one_site(name: str, mask: Masks, count: int) -> None:
    np.testing.assert_array_equal(combined(name, dict.fromkeys(NAMES[:count], mask)), expected(name, mask))


@pytest.mark.parametrize("name", BUILT_IN)
def test_it_says_where_it_comes_from(name: str) -> None:
    assert len(find(name).function.__doc__ or "") > 30


@few
@given(answers)
def test_weights_of_a_run_of_pictures_and_of_pixels_are_one_form(soft: dict[str, Masks]) -> None:
    """The same weights given as a number, per picture and per pixel: equal up to the fixed point."""
    weights = {site: 1.0 + place for place, site in enumerate(soft)}
    whole = weighted_mean(soft, weights)
    pictures = weighted_mean(soft, {site: np.full(3, w) for site, w in weights.items()})
    pixels = weighted_mean(soft, {site: np.full(SHAPE, w) for site, w in weights.items()})
    np.testing.assert_array_equal(pictures, whole)
    assert np.abs(pixels.astype(int) - whole).max() <= 1


def test_weights_per_pixel_by_hand() -> None:
    """(1 · 10 + 3 · 50) / 4 = 40; where all are 0 the plain mean, 30."""
    soft = {"ann": np.full((1, 1, 2), 10, np.uint8), "bob": np.full((1, 1, 2), 50, np.uint8)}
    weights = {"ann": np.array([[[1.0, 0.0]]]), "bob": np.array([[[3.0, 0.0]]])}
    assert weighted_mean(soft, weights).tolist() == [[[40, 30]]]


@pytest.mark.parametrize("wrong", [np.full(SHAPE, -1.0), np.full(3, np.nan), np.ones((2, 2))])
def test_impossible_weights_name_the_site(wrong: NDArray[np.float64]) -> None:
    with pytest.raises(StudyError, match="site 'ann'"):
        weighted_mean({"ann": np.zeros(SHAPE, np.uint8)}, {"ann": wrong})


OWN = '''
import numpy as np
from nakt_fed.weightings.scheme import Answers, weighting

@weighting(needs="site_masks")
def larger(x: Answers, *, power: float = 1.0):
    """Sites that see more count more."""
    return {site: masks.mean(axis=(1, 2)) ** power for site, masks in x.masks.items()}

@weighting(needs="site_masks")
def floats(x: Answers):
    return sum(masks / 2 for masks in x.masks.values())

@weighting(needs="site_masks")
def first(x: Answers):
    return next(iter(x.masks.values()))

@weighting(needs="site_masks")
def broken(x: Answers):
    return {site: 1 / 0 for site in x.masks}

@weighting(needs="site_masks", over="run")
def forgetful(run):
    return {"ann": 1.0}

@weighting(needs="site_masks")
def words(x: Answers):
    return dict.fromkeys(x.masks, "much")

@weighting(needs="site_masks")
def ragged(x: Answers):
    return dict.fromkeys(x.masks, [[1], [1, 2]])

@weighting(needs="site_masks", over="run")
def silent(run):
    return None

@weighting(needs="site_masks", over="run")
def many(run):
    return dict.fromkeys(run.sites, np.ones(3))

@weighting(needs="sums", part=lambda masks: 1 / 0)
def parts(x):
    return x.parts[0]

@weighting(needs="site_masks", first=lambda run: {"ann": 1})
def half(x):
    return x.statistic

@weighting(needs="sums", over="run", statistic="weights")
def by_hand(run):
    return run.statistic

@weighting(needs="site_masks")
def optional(x: Answers, *, limit=None):
    return dict.fromkeys(x.masks, 1)

plain = len
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_schemes.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("own")
def test_a_scheme_of_ones_own() -> None:
    """Means 10 and 30: (10 · 10 + 30 · 30) / 40 = 25."""
    soft = {"ann": np.full(SHAPE, 10, np.uint8), "bob": np.full(SHAPE, 30, np.uint8)}
    assert (combined("own_schemes:larger", soft) == 25).all()


@pytest.mark.usefixtures("own")
def test_sites_come_in_the_order_of_their_names() -> None:
    soft = {"bob": np.full(SHAPE, 30, np.uint8), "ann": np.full(SHAPE, 10, np.uint8)}
    assert (combined("own_schemes:first", soft) == 10).all()


@pytest.mark.usefixtures("own")
def test_a_scheme_that_gives_something_else_is_told() -> None:
    with pytest.raises(StudyError, match=r"gave float64 \(1, 3, 2\) .* return uint8 masks of their shape, or"):
        combined("own_schemes:floats", {"ann": np.zeros(SHAPE, np.uint8)})


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", r"'own_schemes:broken' failed: ZeroDivisionError: division by zero \(own_schemes.py, line 20\)"),
        ("forgetful", r"no weight for \['bob'\]; return one for every site"),
        ("half", r"no weight for \['bob'\]; return one for every site"),
        ("words", r"weight of site 'ann' is 'much'; expected numbers"),
        ("ragged", r"weight of site 'ann' is \[\[1\], \[1, 2\]\]; expected numbers"),
        ("silent", r"the weighting gave NoneType; return {site: weight} for every site"),
        ("many", r"weight of site 'ann' has shape \(3,\); return one number for every site"),
        ("parts", r"'own_schemes:parts' failed: ZeroDivisionError: division by zero \(own_schemes.py, line \d+\)"),
    ],
)
def test_a_fault_in_ones_own_scheme_is_told(name: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        combined(f"own_schemes:{name}", dict.fromkeys(("ann", "bob"), np.zeros(SHAPE, np.uint8)))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = = 1", r"cannot be imported: SyntaxError: invalid syntax \(own_{}.py, line 1\); mend it there"),
        ("\n1 / 0", r"cannot be imported: ZeroDivisionError: division by zero \(own_{}.py, line 2\); mend it there"),
        (
            "from nakt_fed.weightings.scheme import weighting\n@weighting\ndef f(x): ...",
            r"cannot be imported: TypeError",
        ),
        ("import no_such_package", "No module named 'no_such_package'.*; install its package"),
    ],
    ids=["syntax", "error", "bare", "missing"],
)
def test_a_module_that_fails_on_import_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, code: str, message: str
) -> None:
    name = request.node.callspec.id
    (tmp_path / f"own_{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(StudyError, match=message.replace("{}", name)):
        find(f"own_{name}:f")


def by_hand(name: str) -> dict[str, Any]:
    """What `fixed` needs, and no other takes."""
    return {"weights": {"ann": 1, "bob": 1}} if name == "fixed" else {}


def study(folders: Path, **fusion: Any) -> Study:
    return tiny_study(folders, fusion=fusion)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("fusion", "message"),
    [
        ({"weighting": "nowhere:at_all"}, "cannot be imported .*PYTHONPATH"),
        ({"weighting": ".own_schemes:larger"}, "write 'module:name'"),
        ({"weighting": "own_schemes:smaller"}, "a name that the module defines"),
        ({"weighting": "own_schemes:plain"}, r"decorate the function with @weighting"),
        ({"weighting": "era", "options": {"temprature": 1.0}}, "options.temprature: .* did you mean 'temperature'?"),
        ({"weighting": "median", "options": {"trim": 0.1}}, "has no such option; known here: none"),
        ({"weighting": "era", "options": {"temperature": "low"}}, "temperature is 'low'; expected a value like 0.1"),
        ({"weighting": "learned"}, r"has to name one of the test sets \['outside'\], which is not set"),
        ({"weighting": "learned", "annotated": "inside"}, r"one of the test sets \['outside'\], got 'inside'"),
        ({"weighting": "uniform", "annotated": "inside"}, r"one of the test sets \['outside'\], got 'inside'"),
        (
            {"weighting": "uniform", "weights": {"ann": 1, "bob": 1}},
            'fusion.weights are for .* "fixed", but it is "uni',
        ),
        ({"weighting": "fixed", "weights": {"ann": 0, "bob": 0}}, "fusion.weights are all zero"),
        ({"weighting": "fixed", "weights": {"ann": float("inf"), "bob": 1}}, "fusion.weights.ann: .* finite number"),
        ({"weighting": "own_schemes:by_hand", "weights": {"ann": 1}}, r"needs fusion.weights of \['bob'\]; add them"),
    ],
)
def test_impossible_combinations_are_refused_at_start(folders: Path, fusion: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        refuse_combination(study(folders, **fusion))


@pytest.mark.parametrize(
    ("name", "key", "value", "limit"),
    [
        ("era", "temperature", 0, "greater than 0"),
        ("validation", "gamma", -1, "greater than or equal to 0"),
        ("agreement", "gamma", -1.0, "greater than or equal to 0"),
        ("simple", "alpha", -1, "greater than or equal to 0"),
        ("rasa", "iterations", 0, "greater than or equal to 1"),
        ("staple", "iterations", -4, "greater than or equal to 1"),
        ("trimmed_mean", "trim", -0.5, "greater than or equal to 0"),
        ("trimmed_mean", "trim", 0.5, "less than 0.5"),
        ("shapley", "gate", 7, "less than or equal to 1"),
        ("shapley", "orders", 0, "greater than or equal to 1"),
    ],
)
def test_an_option_beyond_its_limits_is_refused_at_start(
    folders: Path, name: str, key: str, value: float, limit: str
) -> None:
    with pytest.raises(StudyError, match=rf"fusion.options.{key} is {value}: input should be .*{limit}"):
        refuse_combination(study(folders, weighting=name, options={key: value}))


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    "fusion",
    [
        *[{"weighting": name, "annotated": "outside", **by_hand(name)} for name in BUILT_IN],
        {"weighting": "own_schemes:by_hand", "weights": {"ann": 0.5, "bob": 1}},
        {"weighting": "own_schemes:optional", "options": {"limit": 3}},
        {"weighting": "own_schemes:larger", "options": {"power": 2}},
    ],
)
def test_possible_ones_are_not(folders: Path, fusion: dict[str, Any]) -> None:
    refuse_combination(study(folders, **fusion))


@pytest.mark.parametrize("name", BUILT_IN)
def test_what_works_with_sums_alone(folders: Path, name: str) -> None:
    whole = study(folders, weighting=name, annotated="outside", **by_hand(name))
    if name in SUMS:
        refuse_combination(whole, arrives="sums")
    else:
        with pytest.raises(StudyError, match="only sums over the sites arrive"):
            refuse_combination(whole, arrives="sums")


@pytest.mark.parametrize("name", ["confidence", "variance", "geometric_mean", "era"])
def test_who_is_never_in_doubt_is_refused_where_doubt_counts(name: str) -> None:
    with pytest.raises(StudyError, match=r"needs soft answers, but \['bob'\] answer binary"):
        Combiner(FusionSpec(weighting=name), {"ann": {"binary": False}, "bob": {"binary": True}})


@pytest.mark.parametrize(
    "declared",
    [
        {"needs": "sums"},
        {"needs": "site_masks", "part": len},
        {"needs": "site_masks", "annotated": True},
        {"needs": "masks"},
        {"needs": "site_masks", "over": "pictures"},
        {"needs": "site_masks", "statistic": "validation"},
    ],
)
def test_a_declaration_that_contradicts_itself(declared: dict[str, Any]) -> None:
    with pytest.raises(StudyError, match="mend @weighting"):
        weighting(**declared)
