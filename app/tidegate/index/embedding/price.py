"""What a model's tokens cost, as far as litellm knows."""

from functools import cache

from tidegate.errors import UsageError
from tidegate.index.embedding.litellm_module import litellm


@cache
def price_per_token(model: str) -> float | None:
    """US dollars; 0 for a model of this process, None where nobody knows. Asks nothing of the network."""
    if model.startswith("local/"):
        return 0.0
    try:
        module = litellm()
    except UsageError:
        return None
    try:
        price = module.get_model_info(model)["input_cost_per_token"]
    except Exception:  # litellm has no error of its own for a model that it does not know
        return None
    return None if price is None else float(price)
