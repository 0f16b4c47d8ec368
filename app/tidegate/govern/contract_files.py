"""Contract files, read against what is published: a file that says what is in force need not be checked again."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tidegate.contract.contract import Contract
from tidegate.contract.odcs import SUFFIXES, load_contracts


def load_against(paths: Sequence[Path], known: Mapping[str, Contract]) -> tuple[Contract, ...]:
    """The contracts in files and folders, in order of path.

    Args:
        known: published contracts by their text.

    Raises:
        UnknownName: a file or folder that is not there.
        ContractErrors: everything that is wrong with any of them, all at once.
    """
    files = list(dict.fromkeys(file for path in paths for file in _below(path)))
    same = {file: replace(contract, path=str(file)) for file in files if (contract := known.get(_text(file)))}
    fresh = [file for file in files if file not in same]
    read = {Path(contract.path): contract for contract in load_contracts(fresh)} if fresh or not files else {}
    found = [same.get(file) or read[file] for file in files]
    if len({contract.product for contract in found}) < len(found):
        load_contracts(files)  # names the two files of one product
    return tuple(found)


def _below(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.name.endswith(SUFFIXES) and file.is_file()) or [path]


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return ""
