"""One weight per site for the whole run, known before any mask: y = Σ w_i · T_i(x) (Algorithm 1, line 2)."""

from nakt_fed.weightings.scheme import AtLeastZero, Whole, weighting


@weighting(needs="sums", over="run")
def uniform(run: Whole) -> dict[str, float]:
    """All alike, as in the paper (section 2)."""
    return dict.fromkeys(run.sites, 1.0)


@weighting(needs="sums", over="run", statistic="n_images")
def n_images(run: Whole) -> dict[str, float]:
    """In proportion to the pictures that the teacher was trained on, as in FedAvg (McMahan et al., arXiv 1602.05629)."""
    return dict(run.statistic)


@weighting(needs="sums", over="run", statistic="validation_dice")
def validation(run: Whole, *, gamma: AtLeastZero = 1.0) -> dict[str, float]:
    """The teacher's Dice on the site's own validation pictures, to the power of γ.

    A vote in proportion to a classifier's accuracy: Kuncheva, "Combining Pattern Classifiers", 2nd ed., 2014 (weighted majority vote).
    """
    return {site: dice**gamma for site, dice in run.statistic.items()}


@weighting(needs="sums", over="run", statistic="weights")
def fixed(run: Whole) -> dict[str, float]:
    """What the study says in fusion.weights."""
    return dict(run.statistic)
