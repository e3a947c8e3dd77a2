"""Network-Agnostic Knowledge Transfer (arXiv 2101.09560), Algorithm 1 and Algorithm 2, in the paper's symbols.

T   the teachers: T.predict(D) asks every site about D once; T(x) are the soft masks of a chunk x, per site
D   the transferal set, as chunks x of pictures
w   w(x) weighs the answers of the sites that have answered x: Σ w_i · T_i(x) in fixed point, Σ w_i = 65536 (or another
    way of combining them, nakt_fed/weightings)
y   the pseudo mask, N its target pixels, E its gray-level entropy; α and β their thresholds
S   the student: fitted on the pseudo-annotated D, then (Algorithm 2) on a few annotated pictures D_t

What carries pictures to the sites (a function call, Flower) and what fits the student (this process, Ray Train) stands
behind the protocols; disk and network are theirs.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from nakt_fed.filtering import Verdict, judge

Masks = NDArray[np.uint8]
"""(n, H, W), probability × 255."""


class Chunk(Protocol):
    """x: a few pictures of D, so that memory does not grow with D."""

    @property
    def ids(self) -> list[str]: ...


X = TypeVar("X", bound=Chunk)
X_in = TypeVar("X_in", bound=Chunk, contravariant=True)


class Teachers(Protocol[X_in]):
    """T. `soft(x)` is false when every teacher of x answers with a binary mask: then E does not count (section 2)."""

    def soft(self, x: X_in) -> bool: ...

    def __call__(self, x: X_in) -> Mapping[str, Masks]: ...


class PseudoAnnotated(Protocol[X_in]):
    """Where D's pseudo masks go."""

    def update(self, x: X_in, y: Masks, verdicts: list[Verdict]) -> None: ...


def pseudo_annotate(
    T: Teachers[X],
    D: Iterable[X],
    w: Callable[[X], Callable[[Mapping[str, Masks]], Masks]],
    alpha: float,
    beta: float,
    D_y: PseudoAnnotated[X],
) -> None:
    """Lines 1 to 10 of both algorithms, chunk by chunk: memory is O(chunk), whatever the number of pictures and sites."""
    for x in D:  #                                              1: for each datapoint x in D do
        y = w(x)(T(x))  #                                       2:   y = Σ w_i · T_i(x)
        verdicts = judge(x.ids, y, alpha, beta, T.soft(x))  #   3-5: N, E; exclude x if N < α or E > β
        D_y.update(x, y, verdicts)  #                           6-8: else update x as (x, y)


class Transfer(Protocol):
    """The six acts of a run; `run.Run` does them with sites, disk and a student."""

    def predict(self) -> None:
        """Every T_i answers every x of D: one round trip."""

    def fuse_and_filter(self) -> None:
        """`pseudo_annotate` over the stored answers."""

    def fit(self) -> None:
        """Line 11: train S on the pseudo-annotated D."""

    def fine_tune(self) -> None:
        """Line 12 of Algorithm 2: fine-tune S on D_t."""

    def evaluate(self) -> None:
        """Dice of every T_i, their ensemble and S on the test sets."""


def algorithm_1(transfer: Transfer) -> None:
    """Knowledge transfer."""
    transfer.predict()
    transfer.fuse_and_filter()
    transfer.fit()


def algorithm_2(transfer: Transfer) -> None:
    """Knowledge transfer combined with fine-tuning (A.4)."""
    algorithm_1(transfer)
    transfer.fine_tune()
