"""What of a row is embedded, how it is cut, and under which model."""

import re
from dataclasses import dataclass

from tidegate.contract.identifier import is_identifier

LANGUAGE = "english"
LOCAL, LOCAL_MODELS = "local/", ("local/all-minilm-l6-v2",)
"""The models that tidegate brings. Of any other provider the names are litellm's, which this does not know."""
_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@dataclass(frozen=True, slots=True)
class Embedding:
    """Either `columns`, one after the other, or a `template`; sizes in tokens; `model` is provider/name.

    `chunk_min`, `chunk_target`: as index/chunking.py has them; None: its defaults. `language`: the text search
    configuration by which searches find words.
    """

    columns: tuple[str, ...]
    template: str | None
    chunk_tokens: int
    chunk_overlap: int
    model: str
    chunk_min: int | None = None
    chunk_target: int | None = None
    language: str = LANGUAGE

    @property
    def document_columns(self) -> tuple[str, ...]:
        """Names of the columns that the document shows, each once, in the document's order."""
        names = self.columns if self.template is None else placeholders(self.template)
        return tuple(dict.fromkeys(names))


def placeholders(template: str) -> tuple[str, ...]:
    """The names in the template's `{name}`, in order. `{{` and `}}` are braces.

    Raises:
        ValueError: a single brace, or something between braces that is no column's name.
    """
    names = []
    for part in _PART.finditer(template):
        if part[1] is not None:
            if not is_identifier(part[1]):
                raise ValueError(f"{part[0]!r} does not name a column; write {{{{ and }}}} for braces")
            names.append(part[1])
        elif len(part[0]) == 1:
            raise ValueError(f"single {part[0]!r} at character {part.start() + 1}; write {{{{ and }}}} for braces")
    return tuple(names)
