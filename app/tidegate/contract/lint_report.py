"""Findings of lint in the forms that people, programs and code hosts read."""

import json
from typing import Any

from tidegate.contract.lint import LintResult
from tidegate.contract.severity import LintFinding, Severity

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
HOME = "https://pypi.org/project/tidegate/"


def as_text(result: LintResult) -> str:
    """A line a finding: `file:line: severity: path: message (allowed: …) [check]`."""
    return "\n".join(_line(finding) for finding in result.findings)


def as_json(result: LintResult) -> dict[str, Any]:
    """One object: files, counts and findings."""
    return {
        "files": list(result.files),
        "errors": _count(result, Severity.ERROR),
        "warnings": _count(result, Severity.WARNING),
        "findings": [
            {
                "file": finding.place.file,
                "line": finding.place.line,
                "path": finding.place.path,
                "severity": str(finding.severity),
                "check": finding.check,
                "message": finding.place.message,
                "allowed": list(finding.place.allowed),
            }
            for finding in result.findings
        ],
    }


def as_github(result: LintResult) -> str:
    """Workflow commands that GitHub shows beside the lines ("Workflow commands for GitHub Actions")."""
    return "\n".join(
        f"::{finding.severity} file={_property(finding.place.file)},line={finding.place.line},"
        f"title={_property(f'tidegate {finding.check}')}::{_data(_message(finding))}"
        for finding in result.findings
    )


def as_sarif(result: LintResult, version: str) -> str:
    """SARIF 2.1.0, for code scanning. `version` is tidegate's."""
    checks = sorted({finding.check for finding in result.findings})
    document = {
        "$schema": SARIF_SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "tidegate",
                        "version": version,
                        "informationUri": HOME,
                        "rules": [{"id": check, "shortDescription": {"text": f"tidegate {check}"}} for check in checks],
                    }
                },
                "artifacts": [{"location": {"uri": _uri(file)}} for file in result.files],
                "columnKind": "unicodeCodePoints",
                "results": [
                    {
                        "ruleId": finding.check,
                        "ruleIndex": checks.index(finding.check),
                        "level": str(finding.severity),
                        "message": {"text": _message(finding)},
                        "locations": [
                            {
                                "physicalLocation": {
                                    "artifactLocation": {"uri": _uri(finding.place.file)},
                                    "region": {"startLine": finding.place.line},
                                },
                                "logicalLocations": [{"fullyQualifiedName": finding.place.path}],
                            }
                        ],
                    }
                    for finding in result.findings
                ],
            }
        ],
    }
    return json.dumps(document, ensure_ascii=False, indent=2)


def _line(finding: LintFinding) -> str:
    place = finding.place
    path = f"{place.path}: " if place.path else ""
    allowed = f" (allowed: {', '.join(place.allowed)})" if place.allowed else ""
    return f"{place.file}:{place.line}: {finding.severity}: {path}{place.message}{allowed} [{finding.check}]"


def _message(finding: LintFinding) -> str:
    place = finding.place
    allowed = f" (allowed: {', '.join(place.allowed)})" if place.allowed else ""
    return (f"{place.path}: " if place.path else "") + place.message + allowed


def _count(result: LintResult, severity: Severity) -> int:
    return sum(finding.severity is severity for finding in result.findings)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _uri(path: str) -> str:
    from urllib.parse import quote

    return quote(path.removeprefix("./"))
