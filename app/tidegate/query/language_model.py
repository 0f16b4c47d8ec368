"""The language model that answers: whatever litellm reaches."""

from collections.abc import Generator
from typing import Any

from tidegate.errors import TransientError
from tidegate.index.embedding.litellm_module import litellm
from tidegate.settings import Settings


class ModelUnavailable(TransientError):
    """The language model does not answer."""


class LanguageModel:
    """Thread-safe; asks nothing before it is used. All its methods block.

    Args:
        name: litellm's name of it, `provider/name`.
        settings: `api_base`, and those that begin with `llm_`.
    """

    def __init__(self, name: str, settings: Settings):
        self.name = name
        self._settings = settings

    def count(self, text: str) -> int:
        """Tokens of the text, as litellm counts for this model (an estimate where it knows no tokenizer)."""
        return int(litellm().token_counter(model=self.name, text=text))

    def budget(self) -> int:
        """Tokens that a prompt may have: as set, and at most what the model takes where litellm knows that."""
        most = self._settings.llm_context_tokens
        try:
            window = litellm().get_model_info(self.name).get("max_input_tokens")
        except Exception:  # litellm has no error of its own for a model that it does not know
            window = None
        return most if window is None else min(most, int(window))

    def reply(self, messages: list[dict[str, str]], *, stream: bool) -> Generator[str, None, None]:
        """The reply's text, piece by piece; whole in one piece where it is not streamed.

        Raises:
            ModelUnavailable: no answer, or none in time.
        """
        settings, module = self._settings, litellm()
        try:
            answer: Any = module.completion(
                model=self.name,
                messages=messages,
                api_base=settings.llm_api_base or settings.api_base,
                timeout=settings.llm_timeout_s,
                temperature=settings.llm_temperature,
                max_tokens=settings.llm_reply_tokens,
                stream=stream,
                num_retries=0,
                max_retries=0,
                drop_params=True,  # some models take no temperature
            )
            if stream:
                for chunk in answer:
                    if chunk.choices and (text := chunk.choices[0].delta.content):
                        yield str(text)
            else:
                yield str(answer.choices[0].message.content or "")
        except Exception as error:  # litellm maps every provider's errors, but not onto one base class
            status = getattr(error, "status_code", None)
            raise ModelUnavailable(
                f'language model "{self.name}" does not answer: {type(error).__name__}'
                f"{f' (HTTP {status})' if status else ''}; check TIDEGATE_LLM and its API key, or unset TIDEGATE_LLM "
                "for extracted answers"
            ) from None
