"""TOML files that a user writes: read, validated by pydantic, paths made absolute, faults named by key with the remedy."""

import tomllib
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import BaseModel, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from nakt_fed.errors import StudyError
from nakt_fed.suggest import suggestion

Model = TypeVar("Model", bound=BaseModel)
LIST = "Input should be a list; write it in brackets, [...], also where there is only one"
TABLE = "Input should be a table, { key = value, … }"
EXPECTED = {
    "int_type": "Input should be a whole number, without quotes or decimal point",
    "float_type": "Input should be a number, without quotes",
    "bool_type": "Input should be true or false, without quotes",
    "string_type": "Input should be a text, in quotes",
    "path_type": "Input should be the path of a file or folder, in quotes",
    **dict.fromkeys(("list_type", "tuple_type"), LIST),
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), TABLE),
}
"""What is expected, by what pydantic calls the fault of being something else."""


def in_words(words: str) -> WrapValidator:
    """Behind other rules of a type: what they refuse is refused in these words, since not everybody reads patterns."""

    def check(value: Any, rules: ValidatorFunctionWrapHandler) -> Any:
        try:
            return rules(value)
        except ValidationError:
            raise ValueError(words) from None

    return WrapValidator(check)


def read_toml(path: Path, what: str) -> tuple[Path, dict[str, Any]]:
    """The file's absolute path and its content. Raises StudyError: it is missing, a folder, or not TOML."""
    path = Path(path).expanduser().resolve()
    try:
        return path, tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{what} {path} is not there; check the path") from None
    except IsADirectoryError:
        raise StudyError(f"{path} is a folder; give the {what} (TOML)") from None
    except UnicodeDecodeError as error:
        raise StudyError(f"{what} {path} is not valid TOML: {error}; save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"{what} {path} is not valid TOML: {error}; mend that line") from None


def parse(model: type[Model], raw: dict[str, Any], base: Path, source: str) -> Model:
    """Validate `raw`; relative paths are taken from `base`.

    Args:
        source: what the file is called in errors.

    Raises:
        StudyError: an unknown key (the nearest known one is named), a missing one or an impossible value.
    """
    try:
        loaded = model.model_validate(raw)
    except ValidationError as error:
        raise StudyError(f"{source} cannot be used:\n{explain(model, error)}") from None
    try:
        absolute = _absolute(loaded.model_dump(), base)
    except RuntimeError as error:  # "~name/…" of a user that is not there
        raise StudyError(f"{source} has a path that cannot be found: {error} Write it without ~") from None
    except ValueError as error:  # a NUL in a path
        raise StudyError(f"{source} has a path that no folder can have: {error}; correct it") from None
    return model.model_validate(absolute)


def _absolute(value: Any, base: Path) -> Any:
    """Every Path in nested tables and lists, resolved against the file's folder."""
    if isinstance(value, dict):
        return {key: _absolute(item, base) for key, item in value.items()}
    if isinstance(value, list):
        return [_absolute(item, base) for item in value]
    return (base / value.expanduser()).resolve() if isinstance(value, Path) else value


def explain(model: type[BaseModel], error: ValidationError) -> str:
    """One line per fault."""
    return "\n".join(_explain(model, item) for item in error.errors())


def _explain(model: type[BaseModel], item: Any) -> str:
    """One line per fault: the key as the user would write it, and the remedy."""
    key = ".".join(f"[{part}]" if isinstance(part, int) else str(part) for part in item["loc"]).replace(".[", "[")
    if item["type"] == "extra_forbidden":
        return f"  {key}: unknown key; {_suggestion(model, item['loc'])}"
    if item["type"] == "missing":
        return f"  {key}: missing; add it"
    expected = EXPECTED.get(item["type"], item["msg"]).removeprefix("Value error, ")
    if expected == LIST and isinstance(item["input"], dict):
        expected = f"Input should be a list of tables; write [[{key}]], with two brackets on each side"
    return f"  {key or 'file'}: {expected}{_came(item['input'], expected)}"


def _came(value: Any, expected: str) -> str:
    """The value about as TOML writes it, where it is short and not told yet."""
    if isinstance(value, dict | list) or repr(value) in expected:
        return ""
    plain = str(value).lower() if isinstance(value, bool) else value
    return f" (got {repr(value) if isinstance(value, str) else plain})"


def _suggestion(model: Any, location: tuple[Any, ...]) -> str:
    for part in location[:-1]:
        if isinstance(part, str):
            annotation = model.model_fields[part].annotation
            model = next(
                (kind for kind in (annotation, *getattr(annotation, "__args__", ())) if hasattr(kind, "model_fields")),
                None,
            )
    return suggestion(str(location[-1]), sorted(model.model_fields))


def dump(model: BaseModel) -> str:
    """The model as TOML, with every default written out."""
    return tomli_w.dumps(_plain(model.model_dump(mode="json")))


def _plain(value: Any) -> Any:
    """TOML knows no null: a key that is not set is left out."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    return [_plain(item) for item in value] if isinstance(value, list) else value
