import math
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from nakt_fed import views
from nakt_fed.errors import DataError
from nakt_fed.views import Box, Change, Recipe, Viewed, ViewScheme, render, view_id
from tests.reference.views import float_view

IDS = [f"thyroid/{number}" for number in range(6)]
SCHEME = ViewScheme(seed=7, per_picture=4, mix=0.7)


def picture(number: int, height: int = 48, width: int = 48) -> np.ndarray:
    """Waves and an edge, in whole numbers only, so that it is the same on every machine."""
    y, x = np.ogrid[:height, :width]
    waves = (x * x * (3 + number) + y * (x + 5 * number) + 7 * y * y) // 16 % 511
    return (np.abs(waves - 255) * (1 + (x > width // 3)) // 2).astype(np.uint8)


IMAGES = np.stack([picture(number) for number in range(len(IDS))])

integers = st.integers
changes = st.builds(
    Change,
    kept_rows=integers(45876, 65536),
    kept_columns=integers(45876, 65536),
    row_position=integers(0, 65536),
    column_position=integers(0, 65536),
    flip=st.booleans(),
    angle=integers(-720, 720),
    gamma=integers(180, 332),
    contrast=integers(180, 332),
)
boxes = st.builds(
    Box, height=integers(64, 192), width=integers(64, 192), top=integers(0, 65535), left=integers(0, 65535)
)
recipes = st.one_of(
    st.builds(Recipe, change=changes),
    st.builds(Recipe, change=changes, partner=st.just(1), partner_change=changes, weight=integers(77, 179)),
    st.builds(Recipe, change=changes, partner=st.just(1), partner_change=changes, box=boxes),
)


def partner_of(recipe: Recipe) -> np.ndarray | None:
    return None if recipe.partner is None else IMAGES[recipe.partner]


def kind(recipe: Recipe) -> str:
    if recipe.partner is None:
        return "alone"
    return "blended" if recipe.box is None else "pasted"


@pytest.mark.parametrize(
    ("j", "mixing", "expected"),
    [
        (6, "blended", "0b25401c45abd41cdbebf63f4048f4e4982b04b0a079bd3a465f9f6ba4d35c34"),
        (10, "alone", "19ce3e56232fc3989f549d9a7c701eacf5dc2b6daf1d3e986988cba95c6033b4"),
        (11, "pasted", "89d36356a4bcbe1a295c56303a26ca030dbb2960522e02646e51ef52959b7f19"),
    ],
)
def test_rendered_pixels_are_pinned(j: int, mixing: str, expected: str) -> None:
    """Written down once; they hold on every machine and as long as the scheme is called `views/1`."""
    assert kind(SCHEME.recipe(IDS, *divmod(j - 6, 4))) == mixing
    assert sha256(Viewed(IDS, IMAGES, SCHEME).picture(j).tobytes()).hexdigest() == expected


def test_whole_set_is_pinned() -> None:
    whole = Viewed(IDS, IMAGES, SCHEME).pictures(range(30))
    assert sha256(whole.tobytes()).hexdigest() == "53406d2dd328741d9c83e8e48b2c0e8e599660f24799b81a69c0b0834e88294f"


def test_recipe_follows_from_the_digest() -> None:
    """By hand from SHA-256, in the order of docs/views.md; a draw becomes low + draw·(high − low + 1) // 2^32."""
    stated = "views/1|7|thyroid/0|0"
    digests = b"".join(sha256(f"{stated}|{counter}".encode()).digest() for counter in range(3))
    draws = [int.from_bytes(digests[4 * n : 4 * n + 4], "big") for n in range(20)]

    def scaled(n: int, low: int, high: int) -> int:
        return low + draws[n] * (high - low + 1) // 2**32

    def change(n: int) -> Change:
        kept = scaled(n, 45876, 65536), scaled(n + 1, 45876, 65536), scaled(n + 2, 0, 65536), scaled(n + 3, 0, 65536)
        rest = scaled(n + 5, -720, 720), scaled(n + 6, 180, 332), scaled(n + 7, 180, 332)
        return Change(*kept, draws[n + 4] % 2 == 1, *rest)

    assert draws[8] < 0.7 * 2**32, "mixed"
    assert draws[18] % 2 == 1, "blended"
    expected = Recipe(change(0), scaled(9, 1, 5), change(10), weight=scaled(19, 77, 179))
    assert SCHEME.recipe(IDS, 0, 0) == expected


@settings(deadline=None, max_examples=60)
@given(recipes)
def test_agrees_with_scipy_in_floating_point(recipe: Recipe) -> None:
    """Rounding: half a level by each table, 0.3 by the rounded mean, one by 10-bit weights, half at the end."""
    rendered = render(recipe, IMAGES[0], partner_of(recipe)).astype(float)
    np.testing.assert_allclose(rendered, float_view(recipe, IMAGES[0], partner_of(recipe)), rtol=0, atol=2)


@given(recipes)
@settings(deadline=None, max_examples=30)
def test_rendering_is_pure(recipe: Recipe) -> None:
    image, partner = IMAGES[0].copy(), partner_of(recipe)
    first = render(recipe, image, partner)
    assert first.dtype == np.uint8
    assert first.shape == image.shape
    np.testing.assert_array_equal(image, IMAGES[0])
    np.testing.assert_array_equal(first, render(recipe, image, partner))


def test_without_change_the_picture_stays() -> None:
    np.testing.assert_array_equal(render(Recipe(), IMAGES[0]), IMAGES[0])


def test_geometry_without_change_samples_every_pixel_exactly() -> None:
    """Twice flipped goes through the sampling code, which an empty change does not."""
    flipped = render(Recipe(Change(flip=True)), IMAGES[0])
    np.testing.assert_array_equal(flipped, IMAGES[0][:, ::-1])
    np.testing.assert_array_equal(render(Recipe(Change(flip=True)), flipped), IMAGES[0])


def test_positive_angles_turn_counter_clockwise() -> None:
    np.testing.assert_array_equal(render(Recipe(Change(angle=90 * 16)), IMAGES[0]), np.rot90(IMAGES[0]))


def test_crop_shows_the_kept_part() -> None:
    """Half of the rows kept, all of what is cut away above: output row y lies at source row 24 + (y + 0.5)/2 − 0.5."""
    ramp = np.repeat(np.arange(48, dtype=np.uint8)[:, None] * 4, 48, axis=1)
    cropped = render(Recipe(Change(kept_rows=32768, row_position=65536)), ramp)
    np.testing.assert_array_equal(cropped[1:-1:2, 0], 4 * np.arange(24, 47) + 1)


def test_outside_is_black_whatever_the_gray_levels() -> None:
    bright = np.full((48, 48), 200, np.uint8)
    turned = render(Recipe(Change(angle=720, gamma=180, contrast=180)), bright)
    assert turned[0, 0] == turned[-1, -1] == 0


def test_box_is_pasted_where_it_says() -> None:
    """Sides 48·128/256 = 24 and 48·64/256 = 12; room 48 − 24 + 1 = 25 and 37, halves of which are 12 and 18."""
    recipe = Recipe(partner=1, box=Box(height=128, width=64, top=32768, left=32768))
    expected = IMAGES[0].copy()
    expected[12:36, 18:30] = IMAGES[1][12:36, 18:30]
    np.testing.assert_array_equal(render(recipe, IMAGES[0], IMAGES[1]), expected)


def test_blend_rounds_to_nearest() -> None:
    """(100·77 + 201·179 + 128) / 256 = 171.12, rounded down after the half was added."""
    low, high = np.full((2, 2), 100, np.uint8), np.full((2, 2), 201, np.uint8)
    assert (render(Recipe(partner=1, weight=77), low, high) == 171).all()


@given(st.integers(0, 2**31 - 1), st.integers(0, 5), st.integers(0, 998), st.floats(0, 1))
@settings(deadline=None)
def test_recipes_stay_in_the_stated_ranges(seed: int, i: int, k: int, mix: float) -> None:
    recipe = ViewScheme(seed, 999, mix).recipe(IDS, i, k)
    for change in (recipe.change, recipe.partner_change) if recipe.partner is not None else (recipe.change,):
        assert 0.7 <= change.kept_rows / 65536 <= 1
        assert 0.7 <= change.kept_columns / 65536 <= 1
        assert 0 <= change.row_position <= 65536
        assert 0 <= change.column_position <= 65536
        assert -45 <= change.angle / 16 <= 45
        assert 0.7 <= change.gamma / 256 <= 1.3
        assert 0.7 <= change.contrast / 256 <= 1.3
    assert recipe.partner is None or (recipe.partner != i and 0 <= recipe.partner < len(IDS))
    assert recipe.box is None or 0.25 <= recipe.box.height / 256 <= 0.75
    assert kind(recipe) != "blended" or 0.3 <= recipe.weight / 256 <= 0.7


def test_draws_fill_their_ranges() -> None:
    """Five standard errors of the mean of 2,000 uniform draws from [a, b] are 5·(b − a)/√12/√2000 = 0.033 (b − a)."""
    drawn = [ViewScheme(1, 999, 1).recipe(IDS, k % 6, k) for k in range(2000)]
    assert np.mean([recipe.change.angle for recipe in drawn]) == pytest.approx(0, abs=0.033 * 1440)
    assert np.mean([recipe.change.gamma for recipe in drawn]) == pytest.approx(256, abs=0.033 * 152)
    assert np.mean([recipe.change.kept_rows for recipe in drawn]) == pytest.approx(0.85 * 65536, abs=0.033 * 19660)
    assert np.mean([recipe.change.flip for recipe in drawn]) == pytest.approx(0.5, abs=0.06)
    assert np.mean([recipe.box is None for recipe in drawn]) == pytest.approx(0.5, abs=0.06)
    assert {recipe.partner for recipe in drawn} == set(range(6))


@pytest.mark.parametrize("mix", [0.0, 0.7, 1.0])
def test_mix_is_the_share_of_mixed_views(mix: float) -> None:
    """5 standard errors of a share of 1,000: at most 5·√(0.7·0.3/1000) = 0.073, and none at 0 and 1."""
    mixed = [ViewScheme(3, 999, mix).recipe(IDS, 0, k).partner is not None for k in range(1000)]
    assert np.mean(mixed) == pytest.approx(mix, abs=0.073 if 0 < mix < 1 else 0)


def test_a_set_of_one_picture_never_mixes() -> None:
    viewed = Viewed(IDS[:1], IMAGES[:1], ViewScheme(7, 9, 1.0))
    assert all(viewed.scheme.recipe(IDS[:1], 0, k).partner is None for k in range(9))
    assert viewed.pictures(range(10)).shape == (10, 48, 48)


def test_tables_have_no_entry_near_a_rounding_edge() -> None:
    """Machines differ by about 1e-16, relatively, so by 1e-11 of a step; that never crosses a distance of 1e-6."""
    for gamma in range(180, 333):
        exact = [255 * (level / 255) ** (gamma / 256) for level in range(256)]
        assert min(abs(value % 1 - 0.5) for value in exact) > 1e-6
    for angle in range(-720, 721):
        radians = math.radians(angle / 16)
        assert min(abs(65536 * f(radians) % 1 - 0.5) for f in (math.cos, math.sin)) > 1e-6


@given(st.permutations(range(30)))
@settings(max_examples=10, deadline=None)
def test_order_of_rendering_does_not_matter(order: list[int]) -> None:
    viewed = Viewed(IDS, IMAGES, SCHEME)
    np.testing.assert_array_equal(viewed.pictures(order), viewed.pictures(range(30))[order])


def test_viewed_lists_originals_first_then_views_by_picture() -> None:
    viewed = Viewed(IDS, IMAGES, SCHEME)
    assert len(viewed) == 6 * 5
    assert viewed.ids[:6] == IDS
    assert viewed.ids[6:11] == [f"thyroid/0~00{k}" for k in range(4)] + ["thyroid/1~000"]
    assert len(set(viewed.ids)) == len(viewed)
    np.testing.assert_array_equal(viewed.pictures([5, 2]), IMAGES[[5, 2]])
    recipe = SCHEME.recipe(IDS, 1, 2)
    np.testing.assert_array_equal(viewed.picture(6 + 4 + 2), render(recipe, IMAGES[1], partner_of(recipe)))


def test_viewed_without_views_is_the_set_itself() -> None:
    viewed = Viewed(IDS, IMAGES, ViewScheme(7, 0, 0.7))
    np.testing.assert_array_equal(viewed.pictures(range(len(viewed))), IMAGES)


def test_zarr_gives_the_same_as_numpy(tmp_path: Path) -> None:
    stored = zarr.create_array(f"{tmp_path}/pictures.zarr", data=IMAGES, chunks=(2, 48, 48))
    indices = range(0, 30, 3)
    from_zarr = Viewed(IDS, stored, SCHEME).pictures(indices)
    np.testing.assert_array_equal(from_zarr, Viewed(IDS, IMAGES, SCHEME).pictures(indices))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (33, 20), (96, 96)])
def test_any_shape_renders(height: int, width: int) -> None:
    images = np.stack([picture(number, height, width) for number in range(2)])
    viewed = Viewed(IDS[:2], images, ViewScheme(5, 6, 1.0))
    assert viewed.pictures(range(14)).shape == (14, height, width)


def test_largest_side_does_not_overflow() -> None:
    """2048 is the largest `image_size` of a study."""
    image = np.full((2048, 2048), 90, np.uint8)
    image[:1024] = 30
    corner = Change(kept_rows=65536, kept_columns=65536, angle=720)
    np.testing.assert_allclose(
        render(Recipe(corner), image)[::97], float_view(Recipe(corner), image, None)[::97], rtol=0, atol=2
    )


def test_manifest_round_trip() -> None:
    assert SCHEME.to_dict() == {"scheme": "views/1", "seed": 7, "per_picture": 4, "mix": 0.7}
    assert ViewScheme.from_dict(SCHEME.to_dict()) == SCHEME
    assert view_id("thyroid/12", 3) == "thyroid/12~003"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"scheme": "views/2"}, r"must be 'views/1', got 'views/2'; install the same"),
        ({"seed": None}, "whole seed"),
        ({"per_picture": 1000}, r"per_picture in 0\.\.999"),
        ({"mix": float("nan")}, r"mix in 0\.\.1"),
        ({"mix": "often"}, r"mix in 0\.\.1"),
    ],
)
def test_manifest_of_another_kind_is_refused(entry: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        ViewScheme.from_dict({**SCHEME.to_dict(), **entry})


def test_manifest_without_a_key_is_refused() -> None:
    with pytest.raises(DataError, match="undamaged"):
        ViewScheme.from_dict({"scheme": views.SCHEME})
