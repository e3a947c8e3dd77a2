import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import entropy as scipy_entropy
from skimage.measure import shannon_entropy

from nakt_fed.errors import FilterError
from nakt_fed.filtering import (
    Verdict,
    demand_enough,
    entropy,
    judge,
    levels,
    read_filter,
    scaled_alpha,
    target_pixels,
    write_filter,
)
from nakt_fed.study.tables import FilterSpec
from tests.reference.filtering import plain_verdict

Gray = NDArray[np.uint8]

few = settings(max_examples=40, deadline=None)
at_the_edge = bytes([0, 1, 127, 128, 255] * 52)[:256]
pixels = st.binary(min_size=72, max_size=72)
stacks = (pixels | pixels.map(lambda drawn: drawn.translate(at_the_edge))).map(
    lambda drawn: np.frombuffer(drawn, np.uint8).reshape(3, 4, 6)
)


@few
@given(stacks)
def test_entropy_agrees_with_scipy_and_scikit_image(y: Gray) -> None:
    bits = entropy(levels(y))
    expected = [scipy_entropy(np.unique(mask, return_counts=True)[1], base=2) for mask in y]
    np.testing.assert_allclose(bits, expected, atol=1e-12)
    np.testing.assert_allclose(bits, [shannon_entropy(mask) for mask in y], atol=1e-12)


def test_entropy_of_known_masks() -> None:
    """One level: 0 bits. Two levels half and half: 1 bit. All 256 levels once: 8 bits."""
    flat, halves, every = np.zeros((16, 16)), np.repeat([[0, 255]], 16, 0).repeat(8, 1), np.arange(256).reshape(16, 16)
    bits = entropy(levels(np.stack([flat, halves, every]).astype(np.uint8)))
    assert bits.tolist() == [0, 1, 8]
    assert not np.signbit(bits[0]), "−0.0 would be printed as such"


def test_a_target_pixel_is_more_than_half() -> None:
    """127 / 255 = 0.498 is not, 128 / 255 = 0.502 is."""
    y = np.array([[[127, 127]], [[127, 128]], [[128, 255]]], np.uint8)
    assert target_pixels(levels(y)).tolist() == [0, 1, 2]


@few
@given(stacks, st.integers(0, 24), st.floats(0, 8), st.booleans())
def test_verdicts_agree_with_the_plain_algorithm(y: Gray, alpha: int, beta: float, soft: bool) -> None:
    verdicts = judge(["a", "b", "c"], y, alpha, beta, soft)
    for name, verdict, mask in zip("abc", verdicts, y, strict=True):
        targets, bits, rule = plain_verdict(mask, alpha, beta + 1e-12, soft)  # the two sums may differ in the last bit
        assert (verdict.id, verdict.N) == (name, targets)
        assert (pytest.approx(bits, abs=1e-12) if soft else None) == verdict.E
        assert verdict.rule == rule or abs(bits - beta) < 1e-9
        assert verdict.kept == (verdict.rule == "")


def test_an_empty_chunk_has_no_verdicts() -> None:
    assert levels(np.zeros((0, 4, 4), np.uint8)).shape == (0, 256)
    assert judge([], np.zeros((0, 4, 4), np.uint8), 1, 1) == []


def test_a_chunk_cut_out_of_a_larger_array_counts_the_same() -> None:
    y = np.random.default_rng(0).integers(0, 256, (3, 8, 8), np.uint8)
    np.testing.assert_array_equal(levels(y[:, ::2, 1:5]), levels(np.ascontiguousarray(y[:, ::2, 1:5])))


def one(N: int, bits: int) -> Gray:
    """A mask of 64 pixels with N targets and an entropy of `bits`: 2^bits levels, each as often as any other."""
    level = np.arange(64) % 2**bits
    mask = np.where(np.arange(64) < N, 255 - level, level)
    return mask.reshape(1, 8, 8).astype(np.uint8)


@pytest.mark.parametrize(
    ("N", "bits", "alpha", "beta", "rule"),
    [
        (8, 0, 8, 1, ""),  # N = α stays
        (7, 0, 8, 1, "few_targets"),
        (64, 2, 8, 2, ""),  # E = β stays
        (64, 3, 8, 2, "high_entropy"),
        (7, 3, 8, 2, "few_targets"),  # breaks both: the first that is tested
    ],
)
def test_which_rule_wins(N: int, bits: int, alpha: float, beta: float, rule: str) -> None:
    [verdict] = judge(["a"], one(N, bits), alpha, beta)
    assert (verdict.N, verdict.rule) == (N, rule)


def test_entropy_does_not_apply_to_binary_teachers() -> None:
    """The mean of three binary answers has four levels and up to 2 bits; β = 0 would drop it."""
    thirds = np.array([[[0, 85, 170, 255]]], np.uint8)
    [binary] = judge(["a"], thirds, 0, 0, soft=False)
    assert (binary.E, binary.kept) == (None, True)
    [soft] = judge(["a"], thirds, 0, 0, soft=True)
    assert (soft.E, soft.rule) == (2.0, "high_entropy")


@pytest.mark.parametrize(("size", "alpha"), [(384, 256), (192, 64), (96, 16), (768, 1024), (32, 256 / 144)])
def test_alpha_scales_with_the_area(size: int, alpha: float) -> None:
    assert scaled_alpha(256, size) == pytest.approx(alpha)


@given(
    st.lists(
        st.builds(
            Verdict,
            id=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), min_size=1),
            N=st.integers(0, 2**22),
            E=st.none() | st.integers(0, 8_000_000).map(lambda bits: bits / 1e6),
            rule=st.sampled_from(["", "few_targets", "high_entropy"]),
            sites=st.none() | st.integers(1, 99),
        )
    )
)
@few
def test_file_round_trip(tmp_path_factory: pytest.TempPathFactory, verdicts: list[Verdict]) -> None:
    path = tmp_path_factory.mktemp("filter") / "filter.csv"
    write_filter(verdicts, path)
    assert read_filter(path) == verdicts


def test_file_as_other_tools_see_it(tmp_path: Path) -> None:
    path = tmp_path / "filter.csv"
    write_filter([Verdict("organ/1", 300, 1.5, ""), Verdict("organ/1~000", 3, None, "few_targets", 2)], path)
    assert path.read_text().splitlines() == [
        "id,N,E,kept,rule,sites",
        "organ/1,300,1.500000,1,,",
        "organ/1~000,3,,0,few_targets,2",
    ]
    assert [entry.name for entry in tmp_path.iterdir()] == ["filter.csv"], "no half-written file is left"


def test_a_file_of_an_older_run_is_read(tmp_path: Path) -> None:
    (tmp_path / "filter.csv").write_text("id,N,E,kept,rule\norgan/1,300,1.500000,1,\n")
    assert read_filter(tmp_path / "filter.csv") == [Verdict("organ/1", 300, 1.5, "")]


def test_a_kill_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "filter.csv"
    write_filter([Verdict("organ/1", 300, 1.5, "")], path)
    before = path.read_bytes()

    def interrupted() -> object:
        yield Verdict("organ/2", 1, 1.0, "")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_filter(interrupted(), path)  # type: ignore[arg-type]
    assert path.read_bytes() == before


def spread(entropies: list[float], few: int, beta: float) -> list[Verdict]:
    seen = [Verdict(f"a{i}", 99, bits, "high_entropy" if bits > beta else "") for i, bits in enumerate(entropies)]
    return seen + [Verdict(f"b{i}", 0, 7.9, "few_targets") for i in range(few)]


@few
@given(st.lists(st.floats(0, 8), min_size=1, max_size=40), st.integers(0, 5))
def test_too_few_pictures_are_refused_with_how_many_would_stay(entropies: list[float], few: int) -> None:
    verdicts = spread(entropies, few, beta=2.5)
    kept = sum(bits <= 2.5 for bits in entropies)
    spec = FilterSpec(min_kept=kept + 1)
    with pytest.raises(FilterError) as caught:
        demand_enough(verdicts, spec)
    message = str(caught.value)
    assert f"only {kept} of {len(verdicts)} transferal pictures" in message
    assert f"filter.min_kept = {kept + 1}" in message
    assert f"{few} with too few target pixels" in message
    assert f"{len(entropies) - kept} with an entropy over max_entropy = 2.5 bits" in message
    stays = {float(beta): int(count) for beta, count in re.findall(r"β ([\d.]+): (\d+)", message)}
    assert stays == {step / 2: sum(bits <= step / 2 for bits in entropies) for step in range(4, 17)}
    quartiles = ", ".join(f"{value:.2f}" for value in np.quantile(entropies, [0, 0.25, 0.5, 0.75, 1]))
    assert f"entropy of the {len(entropies)} others (min, quartiles, max): {quartiles} bits" in message
    for remedy in ("train the teachers longer", "filter.max_entropy", "filter.min_kept", "filter.enabled = false"):
        assert remedy in message


def test_without_any_target_the_message_says_so() -> None:
    with pytest.raises(FilterError, match="no picture has enough target pixels: the teachers see no target"):
        demand_enough(spread([], few=3, beta=2.5), FilterSpec())


def test_enough_pictures_pass() -> None:
    demand_enough(spread([1.0] * 16, few=4, beta=2.5), FilterSpec(min_kept=16))
