"""How well text can be read on a page, measured in the browser."""

from typing import Any

RATIOS = """places => {
  const linear = v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = colour => {
    const [r, g, b] = colour.match(/\\d+/g).map(v => linear(v / 255));
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const page = light(getComputedStyle(document.body).backgroundColor);
  const ratio = selector => {
    const text = light(getComputedStyle(document.querySelector(selector)).color);
    return (Math.max(text, page) + .05) / (Math.min(text, page) + .05);
  };
  return Object.fromEntries(places.map(s => [s, ratio(s)]));
}"""
ENOUGH = 4.5


def hard_to_read(page: Any, *places: str) -> dict[str, float]:
    """WCAG 2.2 contrast (1 to 21) with the page of the selected texts that have less than the 4.5 that it demands."""
    return {place: ratio for place, ratio in page.evaluate(RATIOS, list(places)).items() if ratio < ENOUGH}
