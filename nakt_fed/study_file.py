"""Reads and writes study files: defaults that depend on other keys, absolute paths, faults named with the remedy."""

import copy
import difflib
import tomllib
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from nakt_fed.errors import StudyError
from nakt_fed.study import NetworkSpec, Recipe, Study, StudySpec, TransferalSpec

PAPER_RECIPE: dict[str, Any] = {
    "learning_rate": 1e-4,
    "batch_size": 4,
    "schedule": "constant",
    "ema": 0.0,
    "augment": "paper",
}


def _with_defaults(raw: dict[str, Any]) -> dict[str, Any]:
    """Defaults that depend on other keys: the paper's preset, and how the student's pictures are augmented."""
    raw = copy.deepcopy(raw)
    if _table(raw, "study").get("preset") == "paper":
        _paper(raw)
    views = _table(raw, "transferal").get("views", TransferalSpec.model_fields["views"].default)
    _under(raw, "student", {"augment": "flip" if views else "paper"})
    return raw


def _paper(raw: dict[str, Any]) -> None:
    """The paper's recipe (A.3) under every key that the user did not write: Adam 1e-4, batch 4, 500 epochs for teachers, no views."""
    _under(raw, "transferal", {"views": 0})
    sites = raw.get("site")
    for site in sites if isinstance(sites, list) else []:
        _under(site, "teacher", {"epochs": 500, **PAPER_RECIPE})
    _under(raw, "student", {"epochs": 175, "temperature": 1.0, **PAPER_RECIPE})
    _under(raw, "fine_tune", {"epochs": 50, **PAPER_RECIPE})


def _table(raw: dict[str, Any], key: str) -> dict[str, Any]:
    value = raw.get(key)
    return value if isinstance(value, dict) else {}


def _under(raw: Any, key: str, defaults: dict[str, Any]) -> None:
    """Put defaults under what the user wrote; what is no table is left for the validation to name."""
    if isinstance(raw, dict) and isinstance(raw.get(key), dict):
        raw[key] = {**defaults, **raw[key]}


def load_study(path: Path) -> Study:
    """Read, validate and make every path absolute.

    Raises:
        StudyError: the file is missing, not TOML, has an unknown key (the nearest known one is named) or an impossible value.
    """
    path = Path(path).expanduser().resolve()
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"study file {path} is not there; check the path") from None
    except IsADirectoryError:
        raise StudyError(f"{path} is a folder; give the study's TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"study file {path} is not valid TOML: {error}; mend that line") from None
    return parse_study(raw, path.parent, str(path))


def parse_study(raw: dict[str, Any], base: Path, source: str = "the study") -> Study:
    """Validate a study given as a dict; relative paths are taken from `base`. Raises StudyError like `load_study`."""
    try:
        study = Study.model_validate(_with_defaults(raw))
    except ValidationError as error:
        raise StudyError(
            f"{source} cannot be used:\n" + "\n".join(_explain(item, raw) for item in error.errors())
        ) from None
    try:
        return Study.model_validate(_absolute(study.model_dump(), base))
    except RuntimeError as error:  # "~name/…" of a user that is not there
        raise StudyError(f"{source} has a path that cannot be found: {error} Write it without ~") from None


def _absolute(value: Any, base: Path) -> Any:
    """Every Path in nested tables and lists, resolved against the study's folder."""
    if isinstance(value, dict):
        return {key: _absolute(item, base) for key, item in value.items()}
    if isinstance(value, list):
        return [_absolute(item, base) for item in value]
    return (base / value.expanduser()).resolve() if isinstance(value, Path) else value


def _explain(item: Any, raw: dict[str, Any]) -> str:
    """One line per fault: the key as the user would write it, and the remedy."""
    key = ".".join(f"[{part}]" if isinstance(part, int) else str(part) for part in item["loc"]).replace(".[", "[")
    if item["type"] == "extra_forbidden":
        return f"  {key}: unknown key{_suggestion(item['loc'])}"
    if item["type"] == "missing":
        return f"  {key}: missing; add it"
    came = "" if isinstance(item["input"], dict | list) else f" (got {item['input']!r})"
    return f"  {key or 'study'}: {item['msg'].removeprefix('Value error, ')}{came}"


def _suggestion(location: tuple[Any, ...]) -> str:
    model: Any = Study
    for part in location[:-1]:
        if isinstance(part, str):
            annotation = model.model_fields[part].annotation
            model = next(
                (kind for kind in (annotation, *getattr(annotation, "__args__", ())) if hasattr(kind, "model_fields")),
                None,
            )
    known = sorted(model.model_fields)
    nearest = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"; did you mean {nearest[0]!r}?" if nearest else f"; known here: {', '.join(known)}"


def dump_study(study: Study) -> str:
    """The resolved study as TOML, with every default written out; `load_study` reads it back equal."""
    return tomli_w.dumps(_plain(study.model_dump(mode="json")))


def _plain(value: Any) -> Any:
    """TOML knows no null: a key that is not set is left out."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def checked_parts(network: dict[str, Any], recipe: dict[str, Any], image_size: int) -> tuple[NetworkSpec, Recipe, int]:
    """The same rules for a part on its own. Raises StudyError like `load_study`."""
    try:
        StudySpec(name="part", image_size=image_size)
        return NetworkSpec(**network), Recipe(**recipe), image_size
    except ValidationError as error:
        raise StudyError(
            "this cannot be trained:\n" + "\n".join(_explain(item, {}) for item in error.errors())
        ) from None
