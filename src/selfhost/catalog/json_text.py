"""JSON that comes from strangers, and what is wrong with it in a few words of ours. Pure."""

import json
from typing import Any


def parse(content: bytes) -> Any:
    """The value in `content`; raises `ValueError` for what is no JSON in UTF-8 (a byte order mark stops vLLM too)."""
    try:
        return json.loads(content.decode())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"its byte {error.start} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON from line {error.lineno}, column {error.colno} on") from None
    except ValueError:  # Python converts no text longer than 4,300 digits
        raise ValueError("a number in it has too many digits") from None
