"""Planted faults: each does what its name says, by seed and picture, whatever the chunks."""

import numpy as np
import pytest

from nakt_fed.attacks import ATTACKS, attacked, shuffled
from nakt_fed.errors import StudyError
from tests.nakt_fed.crowd import honest, lesions

TRUTH = lesions(6, 48)
MASKS = honest(TRUTH, 1)
IDS = [f"p{i}" for i in range(6)]


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_keeps_the_form_and_the_honest_masks(name: str) -> None:
    before = MASKS.copy()
    sent = attacked(name, MASKS, IDS, 1)
    assert (sent.shape, sent.dtype) == (MASKS.shape, np.uint8)
    assert (before == MASKS).all()
    assert (sent != MASKS).any()
    assert (sent == attacked(name, MASKS, IDS, 1)).all()


@pytest.mark.parametrize("name", sorted(set(ATTACKS) - {"shuffled"}))
def test_chunks_do_not_matter(name: str) -> None:
    parts = [attacked(name, MASKS[rows], IDS[rows], 1) for rows in (slice(0, 2), slice(2, 6))]
    assert (np.concatenate(parts) == attacked(name, MASKS, IDS, 1)).all()


def test_by_hand() -> None:
    masks = np.arange(96 * 96, dtype=np.uint8).reshape(1, 96, 96)
    assert (attacked("inverted", masks, IDS[:1], 0) == 255 - masks).all()
    moved = attacked("shifted", masks, IDS[:1], 0)
    assert (moved[0, 5:, 5:] == masks[0, :-5, :-5]).all(), "20 pixels of 384 are 5 of 96"
    assert not moved[0, :5].any()
    assert not moved[0, :, :5].any()
    assert set(np.unique(attacked("overconfident", masks, IDS[:1], 0))) >= {0, 255}


def test_no_picture_keeps_its_own_answer_when_shuffled() -> None:
    levels = np.arange(6, dtype=np.uint8)[:, None, None] * np.ones((6, 2, 2), np.uint8)
    sent = shuffled(levels, IDS, 3)[:, 0, 0]
    assert sorted(sent) == list(range(6))
    assert (sent != np.arange(6)).all()


def test_sites_of_one_seed_collude() -> None:
    other = honest(TRUTH, 2)
    assert (attacked("colluding", MASKS, IDS, 1) == attacked("colluding", other, IDS, 1)).all()
    assert (attacked("colluding", MASKS, IDS, 1) != attacked("colluding", MASKS, IDS, 2)).any()


def test_an_unknown_attack_is_refused() -> None:
    with pytest.raises(StudyError, match="no attack 'blanc'; take one of blank, all_positive"):
        attacked("blanc", MASKS, IDS, 1)
