"""Different label sets: teachers that know different classes, and one student that learns the union of them.

Every class is a run of its own over the sites that know it, up to the student: a stack of masks per site and class, the same
fusion, the same filter. Classes are not exclusive: a sigmoid each, no softmax. Their order is that of their names. A study
with one class has the one name "" here, whatever it is called, and none of its files is called after it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

ONE = ("",)
"""The classes of a study that has one."""


class Labelled(Protocol):
    """A site or test set of a study."""

    @property
    def name(self) -> str: ...
    @property
    def classes(self) -> Sequence[str]: ...


def union(classes: Iterable[Collection[str]]) -> tuple[str, ...]:
    """The names of all classes in their fixed order; `ONE` where there are fewer than two.

    >>> union([["nodule"], ["lesion", "nodule"]])
    ('lesion', 'nodule')
    """
    names = tuple(sorted({name for each in classes for name in each}))
    return names if len(names) > 1 else ONE


def planes(name: str, classes: Iterable[str]) -> tuple[str, ...]:
    """What the stacks of `name` are called in a mask store, one per class; "~" is in no name of a site, test set or class."""
    return tuple(f"{name}~{label}" if label else name for label in classes)


def name_of(plane: str) -> str:
    """Whose stack it is."""
    return plane.partition("~")[0]


def title(test: str, label: str) -> str:
    """What a test set is called in tables, judged by one class: ":" is in no name either."""
    return f"{test}:{label}" if label else test


def untitled(name: str) -> tuple[str, str]:
    """(test set, class) of a `title`."""
    test, _, label = name.partition(":")
    return test, label


def class_folder(run: Path, label: str) -> Path:
    """Where a class's fused masks, filter.csv and suspects.json lie."""
    return run / "classes" / label if label else run


def written(raw: Any) -> Any:
    """A table of a study file with its classes in order; a table of mask folders names them too."""
    if not isinstance(raw, dict):
        return raw
    masks, names = raw.get("masks"), names_in(raw)
    if isinstance(masks, Mapping) and not raw.get("classes"):
        return {**raw, "classes": sorted(masks)}
    return {**raw, "classes": sorted(names)} if names else raw


def names_in(site: Any) -> tuple[str, ...]:
    """The classes of a table of a study file, before or after it was validated; none where they are no names."""
    names = site.get("classes") if isinstance(site, dict) else getattr(site, "classes", None)
    good = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    return tuple(names) if good else ()  # type: ignore[arg-type]


def with_outputs(raw: Any, table: str, classes: Collection[str]) -> Any:
    """The network in `raw[table]` has an output per class where the user does not say how many."""
    if not isinstance(raw, dict) or not isinstance(raw.get(table), dict):
        return raw
    return {**raw, table: {"classes": max(1, len(classes)), **raw[table]}}


def refuse_masks(what: str, masks: Any, classes: Sequence[str]) -> None:
    """Raise ValueError where the folders of masks and the classes do not go together."""
    twins = sorted({name for name in classes if list(classes).count(name) > 1})
    if twins:
        raise ValueError(f"{what} names the class {twins[0]!r} twice in classes; name each once")
    if isinstance(masks, Mapping):
        if sorted(masks) != sorted(classes):
            raise ValueError(
                f"{what} has masks of {sorted(masks)}, but classes = {list(classes)}; leave classes out, or name the same"
            )
    elif masks is not None and len(classes) > 1:
        example = ", ".join(f'{name} = "…"' for name in classes)
        raise ValueError(f"{what} has one folder of masks for {len(classes)} classes; write masks = {{ {example} }}")


def refuse_outputs(what: str, key: str, outputs: int, classes: Collection[str]) -> None:
    """Raise ValueError where a network has another number of outputs than there are classes."""
    if outputs != max(1, len(classes)):
        count = f"{len(classes)} classes" if len(classes) > 1 else "1 class"
        raise ValueError(f"{key}.classes is {outputs}, but {what} {count}; leave {key}.classes out")


def refuse_label_sets(sites: Sequence[Labelled], tests: Sequence[Labelled]) -> None:
    """Raise ValueError where a site does not say what it knows while others do, or a test set asks for what nobody knows."""
    known = sorted({name for site in sites for name in site.classes})
    silent = [site.name for site in sites if not site.classes]
    if known and silent:
        raise ValueError(
            f"site {silent[0]!r} does not say which classes its teacher knows, while other sites do ({known}); "
            'give it classes = ["…"], or take classes from all sites'
        )
    for test in tests:
        foreign = [name for name in test.classes if name not in known]
        if foreign:
            raise ValueError(
                f"test set {test.name!r} has masks of {foreign[0]!r}, a class that no site knows; "
                f"the sites know {known or 'one class without a name'}: rename it, or leave the test set out"
            )
        if len(known) > 1 and not test.classes:
            raise ValueError(
                f"test set {test.name!r} does not say of which class its masks are; the sites know {known}: "
                f'give it classes = ["{known[0]}"]'
            )
