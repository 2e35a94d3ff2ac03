"""The bytes of a file of rows: on this machine or in a bucket, perhaps compressed. No JAX."""

import bz2
import codecs
import gzip
import lzma
import pathlib
import zlib

from etils import epath

from sar_jax import files
from sar_jax.errors import UserError

# What a compressed file begins with, whatever its name is.
_COMPRESSED = {b"\x1f\x8b": gzip.decompress, b"BZh": bz2.decompress, b"\xfd7zXZ": lzma.decompress}
_ZSTANDARD = b"\x28\xb5\x2f\xfd"
_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def content(path: str) -> bytes:
    """The file's bytes, decompressed. Raises `UserError` for what is no file or is damaged."""
    found = _remote(path) if files.is_remote(path) else _local(path)
    if found.startswith(_ZSTANDARD):
        raise UserError(f"{path}: is compressed by zstd: give it as .gz, .bz2, .xz or as it is")
    for mark, decompress in _COMPRESSED.items():
        if found.startswith(mark):
            try:
                return decompress(found)
            except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
                raise UserError(f"{path}: cannot be decompressed ({error})") from None
    return found


def text(path: str) -> bytes:
    """The same of a file of text. Raises `UserError` for UTF-16 and UTF-32."""
    found = content(path)
    if found.startswith(_MARKS) or b"\0" in found[:4]:
        raise UserError(f"{path}: the file is in UTF-16 or UTF-32: save it as UTF-8")
    return found


def encoding(found: bytes) -> str:
    """What another encoding than UTF-8 seems to be, for messages: ", it seems to be in cp1252"."""
    # here and not above: only a message needs it
    from charset_normalizer import from_bytes

    best = from_bytes(found[:100_000]).best()
    return f"; it seems to be in {best.encoding}: save it as UTF-8" if best else ""


def _local(path: str) -> bytes:
    file = pathlib.Path(path).expanduser()
    if not file.is_file():
        if not file.exists():
            raise UserError(f"{path}: no such file")
        raise UserError(f"{path}: is {'a folder' if file.is_dir() else 'no regular file'}")
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def _remote(path: str) -> bytes:
    try:
        return epath.Path(path).read_bytes()
    except Exception as error:  # each file system raises types of its own
        reason = (str(error).strip().splitlines() or [""])[0]
        raise UserError(f"{path}: cannot be read ({type(error).__name__}: {reason})") from None
