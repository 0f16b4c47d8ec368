"""What Kafka Connect writes values with, and what of the connector's configuration belongs to it."""

import re
from typing import assert_never
from urllib.parse import urlsplit

from tidegate.errors import UsageError
from tidegate.settings import RegistrySettings, Settings

_APICURIO = re.compile(r"/apis/registry/v[23]/?$")
_JSON = {"value.converter": "org.apache.kafka.connect.json.JsonConverter"}
_NAMES = {
    # Avro knows letters, digits and underscores. Columns' names come back (names.py); of schemas nobody asks the name.
    "field.name.adjustment.mode": "avro_unicode",
    "schema.name.adjustment.mode": "avro",
    "transforms.route.schema.name.adjustment.mode": "avro",
}


def value_properties(settings: Settings) -> dict[str, str]:
    """The connector's properties for the format that values shall have.

    Whose converters they are, the registry's URL says: `…/apis/registry/v2` (or v3) is Apicurio's own interface,
    all else is taken for a Confluent-compatible one.

    Raises:
        UsageError: see require_registry.
    """
    match settings.kafka.value_format:
        case "json":
            return dict(_JSON)
        case "avro":
            require_registry(settings)
            registry = settings.registry
            properties = _apicurio(registry) if _APICURIO.search(str(registry.url)) else _confluent(registry)
            return _NAMES | {f"value.converter.{name}".rstrip("."): value for name, value in properties.items()}
        case kind:
            assert_never(kind)


def require_registry(settings: Settings) -> None:
    """Raises UsageError where values shall have a format that needs a registry, and none is set, or wrongly."""
    kind, registry = settings.kafka.value_format, settings.registry
    if registry.url is None:
        if kind != "json":
            raise UsageError(
                f"TIDEGATE_KAFKA__VALUE_FORMAT is {kind}, but no schema registry is set: TIDEGATE_REGISTRY__URL, e.g. "
                "http://registry:8080/apis/registry/v2 (Apicurio) or http://registry:8081 (Confluent and others)"
            )
        return
    if "@" in urlsplit(registry.url).netloc:
        raise UsageError(
            "TIDEGATE_REGISTRY__URL has credentials in it, which logs would show; set TIDEGATE_REGISTRY__USER and "
            "__PASSWORD instead"
        )
    if urlsplit(registry.url).scheme not in ("http", "https"):
        raise UsageError(f'TIDEGATE_REGISTRY__URL is "{registry.url}"; it must begin with http:// or https://')
    if registry.token is not None and (registry.user or registry.password):
        raise UsageError("TIDEGATE_REGISTRY__TOKEN and TIDEGATE_REGISTRY__USER are both set; a registry takes one")


def reading_url(registry: RegistrySettings) -> str:
    """Where the workers read schemas: the Confluent-compatible interface, which Apicurio has beside its own."""
    return _APICURIO.sub("/apis/ccompat/v7", str(registry.url)).rstrip("/")


def _apicurio(registry: RegistrySettings) -> dict[str, str]:
    properties = {
        "": "io.apicurio.registry.utils.converter.AvroConverter",
        "apicurio.registry.url": str(registry.url).rstrip("/"),
        "apicurio.registry.auto-register": "true",
        # Confluent's wire format: a zero byte, the content's id in four bytes, Avro. Apicurio 3 does so by itself.
        "apicurio.registry.headers.enabled": "false",
        "apicurio.registry.as-confluent": "true",
        "apicurio.registry.use-id": "contentId",
    }
    if registry.token is not None:
        header = "apicurio.registry.request.headers.Authorization"
        properties[header] = f"Bearer {registry.token.get_secret_value()}"
    elif registry.user is not None:
        for prefix in ("apicurio.auth", "apicurio.registry.auth"):  # Apicurio 2, Apicurio 3
            properties |= {f"{prefix}.username": registry.user, f"{prefix}.password": registry.secret}
    return properties


def _confluent(registry: RegistrySettings) -> dict[str, str]:
    properties = {
        "": "io.confluent.connect.avro.AvroConverter",
        "schema.registry.url": str(registry.url).rstrip("/"),
        # A NULL stays NULL where the column has a DEFAULT.
        "ignore.default.for.nullables": "true",
    }
    if registry.token is not None:
        properties["bearer.auth.credentials.source"] = "STATIC_TOKEN"
        properties["bearer.auth.token"] = registry.token.get_secret_value()
    elif registry.user is not None:
        properties["basic.auth.credentials.source"] = "USER_INFO"
        properties["basic.auth.user.info"] = f"{registry.user}:{registry.secret}"
    return properties
