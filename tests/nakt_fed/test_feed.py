from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from nakt_fed.data.folders import PictureSet
from nakt_fed.feed import batches, feed

CPU = torch.device("cpu")
few = settings(max_examples=60, deadline=None)
counts, sizes, seeds = st.integers(2, 60), st.integers(1, 12), st.integers(0, 2**32 - 1)


@few
@given(counts, sizes, seeds)
def test_alone_every_picture_comes_once(count: int, batch_size: int, seed: int) -> None:
    order = np.concatenate(batches(count, batch_size, seed))
    assert sorted(order.tolist()) == list(range(count))


@few
@given(counts, st.integers(2, 12), seeds)
def test_no_batch_has_a_single_picture(count: int, batch_size: int, seed: int) -> None:
    """Batch normalisation over one picture of 1×1 has no variance. Batches differ by one picture at most."""
    lengths = [len(batch) for batch in batches(count, batch_size, seed)]
    assert min(lengths) >= 2
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize(
    ("count", "batch_size", "expected"),
    [(64, 8, 8), (60, 8, 8), (59, 8, 7), (3, 2, 1), (7, 2, 3), (5, 1, 5), (2, 8, 1)],
)
def test_number_of_batches(count: int, batch_size: int, expected: int) -> None:
    """count / batch_size, to the nearest whole number (60/8 = 7.5 goes to the even 8), and no batch of one."""
    assert len(batches(count, batch_size, 0)) == expected


@few
@given(counts, sizes, seeds, st.integers(2, 4))
def test_a_team_sees_the_batches_of_one_worker(count: int, batch_size: int, seed: int, workers: int) -> None:
    """Batch by batch: together the workers hold the same pictures, and each of them the same number."""
    alone = batches(count, batch_size, seed)
    team = [batches(count, batch_size, seed, rank, workers) for rank in range(workers)]
    for whole, *shares in zip(alone, *team, strict=True):
        assert {len(share) for share in shares} == {-(-len(whole) // workers)}
        assert set(np.concatenate(shares).tolist()) == set(whole.tolist())


def test_seeds_decide_the_order() -> None:
    def order(seed: int) -> list[int]:
        return np.concatenate(batches(30, 4, seed)).tolist()

    assert order(1) == order(1)
    assert order(1) != order(2)


def pictures() -> PictureSet:
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4), np.uint8)
    return PictureSet([str(i) for i in range(5)], images, 255 - images)


def test_batches_are_float_with_one_channel() -> None:
    given = pictures()
    [(images, masks)] = feed(given, [np.array([3, 0])], CPU)
    assert images.shape == masks.shape == (2, 1, 4, 4)
    np.testing.assert_array_equal(images[:, 0].numpy(), given.images[[3, 0]].astype(np.float32) / 255)
    np.testing.assert_array_equal(masks[:, 0].numpy(), given.masks[[3, 0]].astype(np.float32) / 255)


def test_a_feed_never_changes_the_pictures() -> None:
    given = pictures()
    for images, masks in feed(given, [np.arange(5)], CPU):
        images.zero_()
        masks.zero_()
    np.testing.assert_array_equal(given.images, pictures().images)


def test_zarr_feeds_the_same_as_memory(tmp_path: Path) -> None:
    """In any order, and with a picture that comes twice, as in a team."""
    given = pictures()
    arrays = [
        zarr.create_array(f"{tmp_path}/{name}", data=data, chunks=(1, 4, 4), shards=(2, 4, 4))
        for name, data in (("images", given.images), ("masks", given.masks))
    ]
    order = [np.array([4, 1, 1, 2]), np.array([0])]
    stored = list(feed(PictureSet(given.ids, *arrays), order, CPU))
    for (images, masks), (stored_images, stored_masks) in zip(feed(given, order, CPU), stored, strict=True):
        assert torch.equal(images, stored_images)
        assert torch.equal(masks, stored_masks)
