"""Documents to chunks, with the splitter of `semantic-text-splitter` and the model's own tokenizer."""

from typing import Any

from semantic_text_splitter import TextSplitter


class TokenSplitter:
    """Cuts at paragraphs, sentences, words, whatever is the largest that fits into `tokens`.

    `tokenizer` is a `tokenizers.Tokenizer`, or a function that counts the tokens of a text.
    """

    def __init__(self, tokenizer: Any, tokens: int, overlap: int = 0):
        self._tokens = tokens
        if callable(tokenizer):
            self._splitter = TextSplitter.from_callback(tokenizer, tokens, overlap=overlap)
        else:
            self._splitter = TextSplitter.from_huggingface_tokenizer(tokenizer, tokens, overlap=overlap)

    def chunks(self, document: str) -> list[str]:
        """The chunks in order, without blanks around them; none for a document without text."""
        text = document.strip()
        if not text:
            return []
        # No tokenizer makes more tokens than bytes, so such a text is one chunk without being counted.
        if len(text) <= self._tokens and len(text.encode()) <= self._tokens:
            return [text]
        return list(self._splitter.chunks(text))
