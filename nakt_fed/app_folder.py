"""Where the Flower apps lie: beside the package in a checkout, inside it in a wheel."""

from pathlib import Path


def app_folder() -> Path:
    """The folder with pyproject.toml ([tool.flwr.app]), `server`, `sites` and `simulation`."""
    package = Path(__file__).resolve().parent
    return package.parent if (package.parent / "server" / "app.py").is_file() else package / "_app"
