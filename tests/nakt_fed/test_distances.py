import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nakt_fed.distances import assd, hd95
from nakt_fed.errors import DataError
from tests.reference.metrics import edt_assd, edt_hd95

EMPTY = np.zeros((1, 8, 8), bool)


def blobs(seed: int) -> np.ndarray:
    """Four masks (4, 24, 24) of a few rectangles, holes included, some at the border."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((4, 24, 24), bool)
    for mask in masks:
        for inside in (True, True, False):
            top, left = rng.integers(0, 20, 2)
            mask[top : top + rng.integers(2, 12), left : left + rng.integers(2, 12)] = inside
        mask[rng.integers(24), rng.integers(24)] = True
    return masks


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_agrees_with_scipys_distance_transform(seed: int) -> None:
    prediction, truth = blobs(seed), blobs(seed + 1)
    expected = [[f(p, t) for p, t in zip(prediction, truth, strict=True)] for f in (edt_hd95, edt_assd)]
    np.testing.assert_allclose([hd95(prediction, truth), assd(prediction, truth)], expected, rtol=1e-5)


def test_two_pixels_by_hand() -> None:
    """Single pixels 3 rows and 4 columns apart: every distance is 5."""
    prediction, truth = EMPTY.copy(), EMPTY.copy()
    prediction[0, 1, 1] = truth[0, 4, 5] = True
    assert hd95(prediction, truth) == assd(prediction, truth) == 5


def test_percentile_and_mean_by_hand() -> None:
    """Columns 0..7 against column 0 of the same row: distances 0..7 one way, 0 the other.

    95th percentile with linear interpolation: 0.95·7 = 6.65. Mean over the 8 + 1 surface pixels: 28/9.
    """
    prediction, truth = EMPTY.copy(), EMPTY.copy()
    prediction[0, 3] = True
    truth[0, 3, 0] = True
    assert hd95(prediction, truth) == pytest.approx(6.65)
    assert assd(prediction, truth) == pytest.approx(28 / 9)


@pytest.mark.parametrize("distance", [hd95, assd])
def test_empty_masks_are_a_named_decision(distance: object) -> None:
    assert callable(distance)
    full = ~EMPTY
    masks = np.concatenate([EMPTY, EMPTY, full, full]), np.concatenate([EMPTY, full, EMPTY, full])
    np.testing.assert_array_equal(distance(*masks), [0, np.nan, np.nan, 0])


@pytest.mark.parametrize("distance", [hd95, assd])
def test_unusable_masks_are_refused(distance: object) -> None:
    assert callable(distance)
    with pytest.raises(DataError, match="threshold"):
        distance(EMPTY.astype(float), EMPTY)


def test_importing_is_light() -> None:
    check = "import sys, nakt_fed.distances; sys.exit(bool({'torch', 'monai', 'scipy'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", check], check=True)
