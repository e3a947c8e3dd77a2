"""A site's policy in plain sentences, for the operator and the security officer."""

from dataclasses import dataclass

from nakt_fed.cli.words import many
from nakt_fed.site.policy import Policy
from nakt_fed.site.site_file import SiteFile


@dataclass(frozen=True)
class Judged:
    """How many private pictures a student is judged on, and how many of them show a target, of the commonest class."""

    pictures: int
    shown: int


def policy_in_words(file: SiteFile, private: Judged | None) -> list[str]:
    """One sentence per rule. Nothing here leaves the site.

    Args:
        private: the annotated private pictures that a student is judged on; None where they were not counted.
    """
    policy, key = file.policy, file.coordinator.public_key.name
    return [
        f"answers at most {policy.pictures_per_day:,} pictures a day, at most {policy.pictures_per_set:,} of them in one set, "
        f"and takes {many(policy.sets_per_day, 'set')} a day at most, for the coordinator whose key is in {key}",
        _apps(policy),
        _approval(policy),
        _masks(file),
        *_evaluation(file, private),
        *_personalisation(file, private),
        *_known(file),
        "says its name, its version of nakt-fed and of its teacher: the network, its number of weights, how many pictures it was "
        "trained on and its Dice on validation pictures",
        f"answers until {policy.expires} (UTC), then refuses" if policy.expires else "answers without an end date",
    ]


def _apps(policy: Policy) -> str:
    if not policy.apps:
        return "runs no app of the coordinator's, so nothing is answered: policy.apps is empty"
    return f"runs an app of the coordinator's only if its SHA-256 is in policy.apps ({many(len(policy.apps), 'app')})"


def _approval(policy: Policy) -> str:
    if policy.approval == "by hand":
        return "answers a new run only after the operator has approved it by hand: nakt site approve"
    return "answers every run that the coordinator has signed, without approval by hand"


def _masks(file: SiteFile) -> str:
    if file.spec().teacher.binary:
        return "binary masks: every pixel is 0 or 255"
    return "soft masks: every pixel is the teacher's probability in 256 steps"


def _evaluation(file: SiteFile, private: Judged | None) -> list[str]:
    policy = file.policy
    if not policy.evaluate_student:
        return ["no student may be evaluated here"]
    pictures = "the" if private is None else f"{private.pictures:,}"
    rule = (
        f"a student may be evaluated here on {pictures} private pictures, at most {policy.evaluations_per_day} students a day; "
        f"only mean, standard deviation and number leave, for the student and for the site's own teacher{_each_class(file)}"
    )
    if private and private.shown < policy.min_evaluated:
        return [
            rule,
            f"but every evaluation will be refused: at least {policy.min_evaluated} pictures that show a target are needed",
        ]
    return [rule]


def _each_class(file: SiteFile) -> str:
    if not file.site.classes:
        return ""
    return f", where sites know different classes for each class that at least {file.policy.min_evaluated} of these pictures show"


def _personalisation(file: SiteFile, private: Judged | None) -> list[str]:
    policy = file.policy
    if not policy.personalise_student:
        return ["no student may be fine-tuned here"]
    pictures = "the" if private is None else f"{private.pictures:,}"
    rule = (
        f"a student may be fine-tuned here on the private pictures outside the test share, at most "
        f"{many(policy.personalisations_per_day, 'student')} a day, each for at most {many(policy.personalise_epochs, 'epoch')} in "
        f"batches of at most {policy.personalise_batch_size} with a learning rate of at most {policy.personalise_learning_rate:g}; "
        f"what it becomes stays in {file.site.folder / 'personalised'}; only mean, standard deviation and number leave, measured "
        f"on {pictures} private pictures of the test share, for the site's own teacher and the student before and after; how far a "
        "training is can be asked meanwhile"
    )
    if private and private.shown < policy.min_evaluated:
        return [
            rule,
            f"but every fine-tuning will be refused: at least {policy.min_evaluated} pictures that show a target are needed in the test share",
        ]
    return [rule]


def _known(file: SiteFile) -> list[str]:
    if file.private is None:
        return []
    least = file.policy.min_pictures
    return [
        f"says, of sets of at least {least} pictures, how many of them also lie among its private ones, rounded down to a multiple "
        f"of {least}"
    ]
