"""Does a study's way of combining go together with the rest of the study? Asked before anything starts."""

import inspect
from typing import Annotated, Any, NoReturn, get_origin

from pydantic import TypeAdapter, ValidationError

from nakt_fed.classes import ONE
from nakt_fed.errors import StudyError
from nakt_fed.study import FederatedStudy, Study
from nakt_fed.study.pictures import SiteSpec, TestSpec
from nakt_fed.study.rules import refuse_missing_weights
from nakt_fed.study.tables import FusionSpec
from nakt_fed.suggest import suggestion
from nakt_fed.weightings import find
from nakt_fed.weightings.bound import refuse_binary
from nakt_fed.weightings.scheme import Needs, Scheme


def refuse_combination(study: Study, arrives: Needs = "site_masks") -> None:
    """Look at fusion.weighting, its options and the annotated set; a user's own module is imported.

    Args:
        arrives: what comes from the sites: every site's masks, or (under secure aggregation) only sums over the sites.

    Raises:
        StudyError: no such scheme, an option that it has not, or something it needs is not there; the message has the remedy.
    """
    scheme, name = find(study.fusion.weighting), study.fusion.weighting
    refuse_options(scheme, study.fusion)
    _refuse_weights(study, scheme)
    if arrives == "sums" and scheme.needs == "site_masks":
        raise StudyError(
            f'fusion.weighting = "{name}" looks at every site\'s own masks, but only sums over the sites arrive; '
            'take one that works with sums, such as "uniform", "confidence" or "majority"'
        )
    if study.fusion.annotated not in (None, *study.test_names):
        _refuse_no_test_set(study, "fusion.annotated")
    if scheme.annotated:
        _refuse_annotated(study, name)
    if scheme.statistic == "validation_dice":
        _refuse_mixed(study, name)
    if not isinstance(study, FederatedStudy):
        refuse_binary(scheme, name, [site.name for site in study.site if site.teacher.binary])


def _refuse_weights(study: Study, scheme: Scheme) -> None:
    """Weights by hand are for a scheme that asks for them: any other would pass them over."""
    refuse_missing_weights(study.fusion, study.site_names)
    if study.fusion.weights and scheme.statistic != "weights":
        raise StudyError(
            f'fusion.weights are for fusion.weighting = "fixed", but it is "{study.fusion.weighting}"; remove one of the two'
        )
    lacking = [site for site in study.site_names if site not in study.fusion.weights]
    if scheme.statistic == "weights" and lacking:
        raise StudyError(f'fusion.weighting = "{study.fusion.weighting}" needs fusion.weights of {lacking}; add them')


def _refuse_no_test_set(study: Study, what: str) -> NoReturn:
    came = f"got {study.fusion.annotated!r}" if study.fusion.annotated else "which is not set"
    raise StudyError(
        f"{what} has to name one of the test sets {study.test_names}, {came}; give a small test set of its own ([[test]]), "
        "since what is measured on it has been seen"
    )


def _refuse_annotated(study: Study, name: str) -> None:
    wanted = study.fusion.annotated
    if not wanted:
        _refuse_no_test_set(study, f'fusion.weighting = "{name}" learns from annotated pictures: fusion.annotated')
    sets: list[SiteSpec | TestSpec] = [*study.site, *study.test]
    judged = next((study.judged(each) for each in sets if each.name == wanted), ONE)
    lacking = sorted({*study.classes} - {*judged})
    if lacking:
        raise StudyError(
            f'fusion.weighting = "{name}" weighs the sites for each class by annotated pictures, but {wanted!r} has no masks of '
            f"{lacking[0]!r}; annotate them in fusion.annotated too, or take another weighting"
        )


def _refuse_mixed(study: Study, name: str) -> None:
    """A validation Dice is one number over all that a teacher knows."""
    several = [site.name for site in study.site if len(site.classes) > 1]
    if several:
        raise StudyError(
            f'fusion.weighting = "{name}" weighs a site by its validation Dice, which over the several classes of {several[0]!r} '
            'is no measure of any of them; take "uniform", or "learned" with annotated pictures of every class'
        )


def refuse_options(scheme: Scheme, fusion: FusionSpec) -> None:
    """Raise StudyError for an option that the scheme has not, of another type, or that it lacks."""
    known = scheme.options
    for key, value in fusion.options.items():
        if key not in known:
            has_not = f'fusion.options.{key}: fusion.weighting = "{fusion.weighting}" has no such option'
            raise StudyError(f"{has_not}; {suggestion(key, known)}")
        default = known[key]
        if default is not inspect.Parameter.empty and not _fits(value, default):
            raise StudyError(f"fusion.options.{key} is {value!r}; expected a value like {default!r}")
        _refuse_beyond(scheme, key, value)
    lacking = [key for key, value in known.items() if value is inspect.Parameter.empty and key not in fusion.options]
    if lacking:
        raise StudyError(
            f'fusion.weighting = "{fusion.weighting}" needs the option {lacking[0]!r}; add it to fusion.options'
        )


def _refuse_beyond(scheme: Scheme, key: str, value: Any) -> None:
    """Raise StudyError for a value beyond the limits in the parameter's type, where that has any."""
    kind: Any = inspect.get_annotations(scheme.function).get(key)
    if get_origin(kind) is not Annotated:
        return
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise StudyError(f"fusion.options.{key} is {value!r}: {error.errors()[0]['msg'].lower()}") from None


def _fits(value: object, default: object) -> bool:
    if default is None:
        return True
    numbers = isinstance(default, float) and isinstance(value, int | float) and not isinstance(value, bool)
    return numbers or type(value) is type(default)
