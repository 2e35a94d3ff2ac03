"""JSON values that processes of a run leave for each other in the coordinator's key-value store.

The store involves no device. It takes anything from anybody who reaches the coordinator's port, so
each value carries a code (`signing`), and reading one never runs anything.
"""

import json
import math
from typing import Any

import jax
from jax._src import distributed  # JAX has no public name for the store; Orbax uses the same

from sar_jax.errors import UserError
from sar_jax.parallel.signing import TOKEN, is_signed, sign

_PART = 2**20  # bytes of a value in the store
_SCALARS = (type(None), bool, int, str)


class Absent(Exception):
    """Nobody has left this value in time, or the store is gone; the text is the store's own."""


def encode(value: Any) -> str:
    """JSON that `decode` turns into an equal value of the same types.

    value   None, bool, int, finite float, str, and lists and dicts (with keys str) of these

    Raises TypeError, which names the place, for anything else: whoever sends it converts it first.
    """
    _check(value, "value")
    return json.dumps(value)


def decode(text: str) -> Any:
    return json.loads(text)


def _check(value: Any, place: str) -> None:
    kind = type(value)  # no subclass: it would come back as another type
    if kind is list:
        for i, entry in enumerate(value):
            _check(entry, f"{place}[{i}]")
    elif kind is dict:
        for key, entry in value.items():
            if type(key) is not str:
                raise TypeError(f"{place} has the key {key!r}: JSON has only text there")
            _check(entry, f"{place}[{key!r}]")
    elif kind is float:
        if not math.isfinite(value):
            raise TypeError(f"{place} is {value}, which JSON does not have")
    elif kind not in _SCALARS:
        raise TypeError(f"{place} is a {kind.__qualname__}, which JSON does not have")


def leave(key: str, value: Any, overwrite: bool = False) -> None:
    """Raises JaxRuntimeError where there is a value already, or the store is gone."""
    text = encode(value)
    data = json.dumps([text, sign(key, text)]).encode()
    parts = [data[i : i + _PART] for i in range(0, len(data), _PART)]
    store = distributed.global_state.client
    for i, part in enumerate(parts):
        store.key_value_set_bytes(f"{key}/{i}", part, allow_overwrite=overwrite)
    store.key_value_set(f"{key}/parts", str(len(parts)), allow_overwrite=overwrite)


def read(key: str, timeout: float) -> Any:
    """The value, once somebody has left it.

    timeout   seconds to wait for each part

    Raises `Absent`; `UserError` where the code is not right.
    """
    store, wait = distributed.global_state.client, int(1000 * timeout)
    try:
        count = int(store.blocking_key_value_get(f"{key}/parts", wait))
        parts = [store.blocking_key_value_get_bytes(f"{key}/{i}", wait) for i in range(count)]
        text, code = json.loads(b"".join(parts))
    except jax.errors.JaxRuntimeError as error:
        raise Absent(str(error).splitlines()[0][:200]) from None
    except (ValueError, TypeError):
        raise UserError(f"the message {key} is damaged, or a stranger wrote it") from None
    if not is_signed(code, key, text):
        raise UserError(
            f"the message {key} was not signed with the token of this process: set {TOKEN} to the "
            "same text on every process"
        )
    return decode(text)


def remove(key: str) -> None:
    """Forgets a value, where there is one."""
    distributed.global_state.client.key_value_delete(f"{key}/")
