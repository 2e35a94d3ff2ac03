"""A bucket that fsspec keeps in memory: gs:// through etils' own code."""

import fsspec
from etils import epath
from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem


class Bucket(MemoryFileSystem):
    """An object store as far as this project can tell."""

    protocol = ("gcs", "gs")
    store: dict = {}
    pseudo_dirs = [""]

    def __init__(self, *args, finalize_on_close=True, **options):
        super().__init__(*args, **options)

    def _open(self, path, mode="rb", **options):
        assert "a" not in mode, "nothing can be appended to an object"
        return super()._open(path, mode, **options)


def install(monkeypatch) -> epath.Path:
    """An empty bucket for one test."""
    monkeypatch.setattr(Bucket, "store", {})
    monkeypatch.setattr(Bucket, "pseudo_dirs", [""])
    for name in Bucket.protocol:
        fsspec.register_implementation(name, Bucket, clobber=True)
    monkeypatch.setattr(
        backend.fsspec_backend, "_get_filesystem", lambda name: Bucket(skip_instance_cache=True)
    )
    return epath.Path("gs://bucket")
