"""A schema registry, as far as a reader needs it: Confluent's REST interface, which all of them have."""

import base64
import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from tidegate.errors import TerminalError, TransientError, UsageError
from tidegate.settings import RegistrySettings

_TIMEOUT_S = 5.0
_ACCEPTED = "application/vnd.schemaregistry.v1+json, application/json"
_NO_SUCH_SCHEMA = 40403


class RegistryAway(TransientError):
    """The schema registry does not answer, or not with schemas."""


class SchemaUnknown(TerminalError):
    """The schema registry has no schema of this id."""


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """A schema as it was registered. `kind`: AVRO, PROTOBUF, JSON."""

    kind: str
    text: str
    references: tuple[str, ...] = ()


class SchemaRegistry:
    """Reads schemas by id. Keeps nothing, so any thread may ask: an id is asked for once by who holds what is made of
    it."""

    def __init__(self, url: str, settings: RegistrySettings):
        self._url = url
        self._authorization: str | None = None
        if settings.token is not None:
            self._authorization = f"Bearer {settings.token.get_secret_value().strip()}"
        elif settings.user is not None:
            both = base64.b64encode(f"{settings.user}:{settings.secret}".encode()).decode()
            self._authorization = f"Basic {both}"
        self._tls = _tls(settings.cafile) if url.startswith("https:") else None

    def schema(self, number: int) -> RegisteredSchema:
        """The schema with this id.

        Raises:
            SchemaUnknown: the registry says that it has none.
            RegistryAway: it says anything else, or nothing.
        """
        found = self._get(f"/schemas/ids/{number}", number)
        try:
            references = tuple(str(each["name"]) for each in found.get("references") or ())
            return RegisteredSchema(str(found.get("schemaType") or "AVRO"), str(found["schema"]), references)
        except (KeyError, TypeError, AttributeError):
            raise self._away("its answer is no schema") from None

    def _get(self, path: str, number: int) -> Any:
        request = urllib.request.Request(self._url + path, headers={"Accept": _ACCEPTED})
        if self._authorization is not None:
            # Not to wherever a redirect leads.
            request.add_unredirected_header("Authorization", self._authorization)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S, context=self._tls) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            if error.code == 404 and _code(error) == _NO_SUCH_SCHEMA:
                raise SchemaUnknown(f"the schema registry at {self._url} has no schema {number}") from None
            error.close()
            raise self._away(f"HTTP {error.code} {error.reason}") from None
        except OSError as error:
            raise self._away(str(getattr(error, "reason", error))) from None
        except (HTTPException, ValueError, RecursionError) as error:
            # Not its text: that may hold a header of the request.
            raise self._away(f"the request or its answer is malformed ({type(error).__name__})") from None

    def _away(self, reason: str) -> RegistryAway:
        return RegistryAway(f"the schema registry at {self._url} does not answer with schemas: {reason}")


def _tls(cafile: str | None) -> ssl.SSLContext:
    if cafile is not None and not Path(cafile).is_file():
        raise UsageError(f'TIDEGATE_REGISTRY__CAFILE: there is no file "{cafile}"')
    try:
        return ssl.create_default_context(cafile=cafile)
    except ssl.SSLError:
        raise UsageError(f'TIDEGATE_REGISTRY__CAFILE: "{cafile}" has no certificates in PEM form') from None


def _code(error: urllib.error.HTTPError) -> int | None:
    try:
        return int(json.loads(error.read())["error_code"])
    except (OSError, HTTPException, ValueError, KeyError, TypeError, RecursionError):
        return None
