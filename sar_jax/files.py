"""Files that are whole or not there, on this machine and in a bucket."""

import pathlib

from etils import epath


def write_atomically(path: pathlib.Path | epath.Path, text: str) -> None:
    """Writes a file that holds the old text or the new one, whatever happens meanwhile.

    In a bucket every write is like that.
    """
    if is_remote(path):
        path.write_text(text)
        return
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def is_remote(path: str | pathlib.Path | epath.Path) -> bool:
    """Is it in a bucket (gs://...), where a file can be written whole, but not appended to?"""
    return "://" in str(path)
