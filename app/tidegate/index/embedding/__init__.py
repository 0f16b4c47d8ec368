"""Texts to vectors: the protocol, the local model, and every model that litellm reaches."""
