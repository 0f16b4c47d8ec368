"""litellm, imported when it is first used: the import takes seconds."""

import os
from functools import cache
from typing import Any

from tidegate.errors import UsageError


@cache
def litellm() -> Any:
    """The module `litellm`, told to look nothing up on the network at import.

    Raises:
        UsageError: the extra `llm` is not installed.
    """
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        import litellm as module
    except ImportError:
        raise UsageError('remote models need litellm; run: pip install "tidegate[llm]"') from None
    module.suppress_debug_info = True
    module.telemetry = False
    # It takes max_retries=0 of a call for "not given"; who calls knows what else waits.
    module.DEFAULT_MAX_RETRIES = 0  # type: ignore[attr-defined]
    return module
