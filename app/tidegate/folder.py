"""Where the SQL and the migrations lie: beside the package in a wheel, at the top of a checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """The folder `name` (`sql` or `migrations`), in an installed wheel and in a checkout alike.

    Raises:
        FileNotFoundError: neither place has it; the installation is broken.
    """
    for candidate in (_PACKAGE / name, _PACKAGE.parent.parent / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(
        f'folder "{name}" of tidegate is neither in {_PACKAGE} nor in {_PACKAGE.parent.parent}; reinstall tidegate'
    )
