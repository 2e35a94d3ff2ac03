"""The code of a message between processes of a run: only who knows the run's token can make it.

The token is the environment variable SAR_JAX_TOKEN: the same on every process, any text. It is no
option, because all users of a machine see command lines. Without it anybody can make the code.
"""

import hmac
import json
import os
from typing import Any

TOKEN = "SAR_JAX_TOKEN"


def sign(*parts: Any) -> str:
    """HMAC-SHA256 (RFC 2104) of some JSON values with the token: 64 hexadecimal digits."""
    key = os.environ.get(TOKEN, "").encode(errors="surrogateescape")
    return hmac.new(key, json.dumps(parts, sort_keys=True).encode(), "sha256").hexdigest()


def is_signed(code: Any, *parts: Any) -> bool:
    """Is this the code of these values? code: of any type, as it was received."""
    return isinstance(code, str) and hmac.compare_digest(code.encode(), sign(*parts).encode())
