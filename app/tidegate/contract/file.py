"""Files that somebody names who may be wrong."""

from collections.abc import Iterable
from pathlib import Path

from tidegate.errors import UnknownName


def require_files(paths: Iterable[str | Path]) -> None:
    """There are files or folders of these names; what is in them is another matter.

    Raises:
        UnknownName: some are not there; names all of them.
    """
    absent = [str(path) for path in paths if not Path(path).exists()]
    if absent:
        raise UnknownName("\n".join(f"{path}: there is no such file or folder" for path in absent))
