import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nakt_fed.augment import Draws, augment, draw, flip, geometry, photometry
from nakt_fed.views import Change
from tests.reference.views import float_geometry


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(size: int = 4, side: int = 32, classes: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = seeded(99)
    return torch.rand(size, 1, side, side, generator=generator), torch.rand(
        size, classes, side, side, generator=generator
    )


@pytest.mark.parametrize("kind", ["paper", "flip", "none"])
@pytest.mark.parametrize("classes", [1, 3])
def test_shapes_types_and_range_stay(kind: str, classes: int) -> None:
    images, masks = batch(classes=classes)
    new_images, new_masks = augment(images, masks.double(), kind, seeded())  # type: ignore[arg-type]
    assert new_images.shape == images.shape
    assert new_masks.shape == masks.shape
    assert new_images.dtype == torch.float32
    assert new_masks.dtype == torch.float64
    for planes in (new_images, new_masks):
        assert planes.min() >= 0
        assert planes.max() <= 1


def test_arguments_stay_as_they_are() -> None:
    images, masks = batch()
    before = images.clone(), masks.clone()
    augment(images, masks, "paper", seeded())
    assert torch.equal(images, before[0])
    assert torch.equal(masks, before[1])


def test_none_changes_nothing() -> None:
    images, masks = batch()
    new_images, new_masks = augment(images, masks, "none", seeded())
    assert torch.equal(new_images, images)
    assert torch.equal(new_masks, masks)


def test_flip_is_an_involution_and_takes_about_half() -> None:
    """Of 400 fair coins, 5 standard deviations are 50."""
    images, masks = batch(400, 8)
    once = augment(images, masks, "flip", seeded())
    twice = augment(*once, "flip", seeded())
    assert torch.equal(twice[0], images)
    assert torch.equal(twice[1], masks)
    mirrored = (once[0] == images.flip(-1)).flatten(1).all(1)
    kept = (once[0] == images).flatten(1).all(1)
    assert bool((mirrored ^ kept).all())
    assert abs(int(mirrored.sum()) - 200) < 50


@pytest.mark.parametrize("kind", ["paper", "flip"])
def test_image_and_mask_move_together(kind: str) -> None:
    """Masks equal to the images stay equal to them when the gray levels are left alone."""
    images, _ = batch(8)
    generator = seeded(4)
    if kind == "flip":
        moved, masks = augment(images, images, "flip", generator)
        assert torch.equal(moved, masks)
        return
    draws = draw(8, seeded(4))
    _, masks = augment(images, images, "paper", generator)
    torch.testing.assert_close(masks, geometry(images, draws))


def test_image_gets_gray_levels_before_geometry() -> None:
    images, masks = batch(8)
    draws = draw(8, seeded(4))
    moved, _ = augment(images, masks, "paper", seeded(4))
    torch.testing.assert_close(moved, geometry(photometry(images, draws), draws))


def test_soft_masks_stay_soft() -> None:
    images, _ = batch()
    _, masks = augment(images, torch.full_like(images, 0.3), "paper", seeded())
    inside = masks[:, :, 12:20, 12:20]
    torch.testing.assert_close(inside, torch.full_like(inside, 0.3))


def test_generator_decides() -> None:
    images, masks = batch()
    first, again, other = (augment(images, masks, "paper", seeded(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_pictures_of_a_batch_get_their_own_augmentation() -> None:
    image, mask = batch(1)
    moved, _ = augment(image.expand(6, -1, -1, -1), mask.expand(6, -1, -1, -1), "paper", seeded())
    assert len({tuple(picture.flatten().tolist()) for picture in moved}) == 6


@given(st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_draws_stay_in_the_paper_ranges(seed: int) -> None:
    draws = draw(16, seeded(seed))
    ranges = {"kept_rows": (0.7, 1), "kept_columns": (0.7, 1), "row_position": (0, 1), "column_position": (0, 1)}
    ranges |= {"radians": (-math.pi / 4, math.pi / 4), "gamma": (0.7, 1.3), "contrast": (0.7, 1.3)}
    for name, (low, high) in ranges.items():
        values = getattr(draws, name)
        assert values.shape == (16,)
        assert low - 1e-6 <= values.min() <= values.max() <= high + 1e-6


change = st.builds(
    Change,
    kept_rows=st.integers(45876, 65536),
    kept_columns=st.integers(45876, 65536),
    row_position=st.integers(0, 65536),
    column_position=st.integers(0, 65536),
    flip=st.booleans(),
    angle=st.integers(-720, 720),
)


@given(change, st.sampled_from([(32, 32), (24, 40)]))
@settings(max_examples=40, deadline=None)
def test_geometry_is_that_of_a_view(change: Change, shape: tuple[int, int]) -> None:
    """The same SciPy reference as for views; float32 coordinates are good for 1e-4 of the range."""
    picture = np.random.default_rng(3).random(shape)
    moved = geometry(torch.from_numpy(picture)[None, None].float(), as_draws(change))
    np.testing.assert_allclose(moved[0, 0].numpy(), float_geometry(change, picture), atol=1e-4)


def as_draws(change: Change) -> Draws:
    return Draws(
        kept_rows=torch.tensor([change.kept_rows / 65536]),
        kept_columns=torch.tensor([change.kept_columns / 65536]),
        row_position=torch.tensor([change.row_position / 65536]),
        column_position=torch.tensor([change.column_position / 65536]),
        flip=torch.tensor([change.flip]),
        radians=torch.tensor([math.radians(change.angle / 16)]),
        gamma=torch.tensor([change.gamma / 256]),
        contrast=torch.tensor([change.contrast / 256]),
    )


def test_photometry_by_hand() -> None:
    """Gamma 2 makes 0, 0.5, 1, 0.5 to 0, 0.25, 1, 0.25 with mean 0.375; factor 0.5 halves the distances from it."""
    image = torch.tensor([[0, 0.5], [1, 0.5]])[None, None]
    draws = as_draws(Change(gamma=512, contrast=128))
    expected = torch.tensor([[0.1875, 0.3125], [0.6875, 0.3125]])
    torch.testing.assert_close(photometry(image, draws)[0, 0], expected)


def test_flip_mirrors_only_what_is_turned() -> None:
    images, _ = batch(2)
    mirrored = flip(images, torch.tensor([True, False]))
    assert torch.equal(mirrored[0], images[0].flip(-1))
    assert torch.equal(mirrored[1], images[1])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_gives_the_same_up_to_rounding() -> None:
    images, masks = batch()
    for here, there in zip(
        augment(images, masks, "paper", seeded()), augment(images.cuda(), masks.cuda(), "paper", seeded()), strict=True
    ):
        torch.testing.assert_close(here, there.cpu(), atol=1e-4, rtol=0)
