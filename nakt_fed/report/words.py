"""Numbers and settings as people read them; the template's filters."""

from collections.abc import Mapping
from typing import Any

MINUS, FIGURE_SPACE = "−", "\u2007"


def percent(value: float) -> str:
    """71.24 -> "71.2"."""
    return f"{value:.1f}"


def spread(value: float) -> str:
    """A standard deviation of the same width in every row: 8.25 -> " 8.2"."""
    return f"{value:.1f}".rjust(4, FIGURE_SPACE)


def points(value: float) -> str:
    """A difference with its sign: −3.14 -> "−3.1"."""
    text = f"{value:+.1f}".replace("-", MINUS)
    return text[1:] if text in ("+0.0", f"{MINUS}0.0") else text


def size(count: float) -> str:
    """Bytes with decimal units: 31_200_000 -> "31.2 MB"."""
    units = ("bytes", "kB", "MB", "GB", "TB")
    power = 0
    while count >= 999.5 and power < len(units) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.0f} {units[power]}" if power == 0 or count >= 100 else f"{count:.1f} {units[power]}"


def duration(seconds: float) -> str:
    """Seconds as "0.4 s", "3 min 20 s" or "2 h 05 min"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, part = divmod(minutes, 60)
    if hours:
        return f"{hours} h {part:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def times(ratio: float) -> str:
    """A ratio: 94.7 -> "95", 3.21 -> "3.2"."""
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.1f}"


def network(spec: Mapping[str, Any]) -> str:
    """An architecture in a few words: "unet, width 16" or "deeplabv3plus, encoder resnet18"."""
    parts = [str(spec["network"])]
    parts += [f"{key} {spec[key]}" for key in ("encoder", "width") if spec.get(key) is not None]
    return ", ".join(parts)


def tables(settings: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The resolved study as (table, [(key, value), …]); sites and test sets are named in the table's title."""
    found = []
    for title, value in settings.items():
        for part in value if isinstance(value, list) else [value] if value is not None else []:
            name = f"{title} {part['name']}" if isinstance(value, list) else title
            found.append((name, _flat(part)))
    return found


def _flat(part: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in part.items():
        if isinstance(value, Mapping) and value:
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", _value(value)))
    return rows


def _value(value: Any) -> str:
    if value is None or value in ([], {}):
        return "not set"
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(str(item) for item in value) if isinstance(value, list) else str(value)


FILTERS = {function.__name__: function for function in (percent, spread, points, size, duration, times, network)}
