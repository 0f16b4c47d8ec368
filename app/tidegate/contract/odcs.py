"""Reading contracts: ODCS YAML, checked against the standard and against tidegate's own model."""

from collections.abc import Iterable
from pathlib import Path as File

from tidegate.contract.contract import Contract
from tidegate.contract.document import Document
from tidegate.contract.file import require_files
from tidegate.contract.finding import ContractError, ContractErrors
from tidegate.contract.findings import Findings
from tidegate.contract.page import MAX_BYTES as MAX_FILE
from tidegate.contract.page import read_page
from tidegate.contract.standard import validate

SUFFIXES = (".odcs.yaml", ".odcs.yml")


def load_contract(path: str | File) -> Contract:
    """The contract in one file.

    Raises:
        UnknownName: there is no such file.
        ContractErrors: everything that is wrong with it.
    """
    return load_contracts([path])[0]


def load_contracts(paths: str | File | Iterable[str | File]) -> list[Contract]:
    """The contracts in files and folders (all `*.odcs.yaml` and `*.odcs.yml` below), in order of path.

    Raises:
        UnknownName: a file or folder that is not there.
        ContractErrors: everything that is wrong with any of them, all at once.
    """
    read = read_contracts(paths)
    errors = [error for findings, _ in read for error in findings.errors]
    if errors:
        raise ContractErrors(errors)
    return [contract for _, contract in read if contract is not None]


def read_contracts(paths: str | File | Iterable[str | File]) -> list[tuple[Findings, Contract | None]]:
    """What was found in each file, and its contract where nothing of it is an error.

    Raises:
        UnknownName: a file or folder that is not there.
    """
    given = [File(paths)] if isinstance(paths, str | File) else [File(path) for path in paths]
    require_files(given)
    read: list[tuple[Findings, Contract | None]] = []
    contracts: dict[str, Contract] = {}
    lost = Findings("")
    for file in _files(given, lost.errors):
        findings = Findings(str(file))
        contract = _read_file(file, findings)
        findings.errors.sort(key=lambda error: error.line)
        if contract is not None and contract.product in contracts:
            other = contracts[contract.product].path
            findings.error(("name",), f"{contract.product} already has a contract, in {other}")
            contract = None
        elif contract is not None:
            contracts[contract.product] = contract
        read.append((findings, contract))
    return [(lost, None), *read] if lost.errors else read


def parse_contract(content: bytes, name: str) -> Contract:
    """The contract in `content`; errors call the file `name`.

    Raises:
        ContractErrors: everything that is wrong with it.
    """
    findings = Findings(name)
    contract = _read(content, findings)
    if contract is None or findings.errors:
        raise ContractErrors(sorted(findings.errors, key=lambda error: error.line))
    return contract


def _files(given: Iterable[File], errors: list[ContractError]) -> list[File]:
    found: dict[File, None] = {}
    named = False
    for path in given:
        named = True
        if not path.is_dir():
            found[path] = None
            continue
        below = sorted(file for file in path.rglob("*") if file.name.endswith(SUFFIXES) and file.is_file())
        if not below:
            errors.append(ContractError(str(path), 1, "", "no contract in this folder", ("*.odcs.yaml", "*.odcs.yml")))
        found |= dict.fromkeys(below)
    if not named:
        errors.append(ContractError(".", 1, "", "no contract to read", ("files or folders",)))
    return list(found)


def _read_file(file: File, findings: Findings) -> Contract | None:
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_FILE + 1)
    except OSError as error:
        findings.error((), f"cannot be read: {error.strerror}")
        return None
    return _read(content, findings)


def _read(content: bytes, findings: Findings) -> Contract | None:
    findings.page = read_page(content, findings.at_line)
    if findings.page is None:
        return None
    document = findings.page.value
    if not isinstance(document, dict):
        findings.error((), "a contract is a mapping (apiVersion, kind, id, …)")
        return None
    validate(document, findings)
    contract = Document(document, findings).contract(content.decode("utf-8-sig"))
    return None if findings.errors else contract
