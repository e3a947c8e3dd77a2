import numpy as np
import pytest

from nakt_fed.data.folders import load_annotated
from nakt_fed.data.synthetic import synthetic_set, write_folder


def test_the_same_seed_gives_the_same_pictures():
    one, same, other = synthetic_set(3, 48, seed=1), synthetic_set(3, 48, seed=1), synthetic_set(3, 48, seed=2)
    np.testing.assert_array_equal(one.images, same.images)
    np.testing.assert_array_equal(one.masks, same.masks)
    assert (one.images != other.images).any()
    assert one.ids == ["synthetic/0000", "synthetic/0001", "synthetic/0002"]


def test_every_lesion_is_one_dark_ellipse():
    pictures = synthetic_set(20, 64, seed=3)
    assert pictures.images.shape == pictures.masks.shape == (20, 64, 64)
    assert set(np.unique(pictures.masks)) == {0, 255}
    share = (pictures.masks > 0).mean(axis=(1, 2))
    # half axes of 0.10 to 0.25: area π·a·b of 3 % to 20 %
    assert (share > 0.025).all()
    assert (share < 0.21).all()
    lesion, tissue = pictures.images[pictures.masks > 0].mean(), pictures.images[pictures.masks == 0].mean()
    assert lesion < 0.6 * tissue


def test_it_gets_darker_with_depth():
    rows = synthetic_set(20, 64, seed=3, empty_share=0.999).images.mean(axis=(0, 2))
    assert rows[-16:].mean() < 0.75 * rows[:16].mean()


def test_gain_makes_a_site_brighter_and_nothing_else():
    dark, bright = synthetic_set(5, 48, seed=4, gain=0.5), synthetic_set(5, 48, seed=4, gain=1.0)
    np.testing.assert_array_equal(dark.masks, bright.masks)
    unclipped = bright.images < 255
    assert np.abs(bright.images[unclipped] / 2 - dark.images[unclipped]).max() <= 0.75  # two roundings


@pytest.mark.parametrize(("share", "empty"), [(0.0, 0), (0.25, 2), (1.0, 8)])
def test_the_share_of_empty_pictures(share, empty):
    masks = synthetic_set(8, 48, seed=5, empty_share=share).masks
    assert (masks.max(axis=(1, 2)) == 0).sum() == empty


def test_written_and_loaded_it_is_the_same(tmp_path):
    pictures = synthetic_set(4, 48, seed=6, empty_share=0.25)
    write_folder(pictures, tmp_path / "site a")
    loaded = load_annotated(tmp_path / "site a/images", tmp_path / "site a/masks", 48)
    assert loaded.ids == ["site a/0000", "site a/0001", "site a/0002", "site a/0003"]
    np.testing.assert_array_equal(loaded.images, pictures.images)
    np.testing.assert_array_equal(loaded.masks, pictures.masks)
