"""What trackers have kept on this machine of a run, read back from their own files."""

import pathlib
import struct

_BLOCK, _HEAD = 32768, 7


def wandb_records(folder: pathlib.Path):
    """Records of the offline runs in wandb/ of a workdir, in the order of their starts.

    The file is a log as LevelDB has it, after a header of seven bytes: blocks of 32 KiB with pieces
    of records, each after its checksum, length and kind (whole, first, middle, last).
    """
    from wandb.proto import wandb_internal_pb2

    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        data, at, record = file.read_bytes(), _HEAD, b""
        while at + _HEAD <= len(data):
            left = _BLOCK - at % _BLOCK
            if left < _HEAD:
                at += left
                continue
            _, size, kind = struct.unpack("<IHB", data[at : at + _HEAD])
            record = (record if kind in (3, 4) else b"") + data[at + _HEAD : at + _HEAD + size]
            at += _HEAD + size
            if kind in (1, 4):
                made = wandb_internal_pb2.Record()
                made.ParseFromString(record)
                yield made
