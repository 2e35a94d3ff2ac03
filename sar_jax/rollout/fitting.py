"""As many slots as fit: what `rollout.slots="auto"` means.

    most    by arithmetic on the cache alone
    fit     by the compiler: the decoder's programs at that many slots, and fewer until they fit

More slots than answers to decode would be idle. With more slots the weights are read less often for
the same tokens, which is what a step of decoding takes on TPUs and GPUs.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from sar_jax.config import TrainConfig
from sar_jax.errors import UserError
from sar_jax.model import parameters
from sar_jax.model.network import Network
from sar_jax.parallel import memory, sharding
from sar_jax.rollout import described
from sar_jax.rollout import shapes as shapes_lib
from sar_jax.structs import Sampling

_WHOLE = 8  # slots of a device are a multiple of this, as the tiles of their products are
_SPARE = 0.97  # of a device's memory; the rest is for what is in pieces
_OF_CPUS = 0.5  # of the machine's memory, which has other uses


class Fitted(NamedTuple):
    """slots, and bytes of one device that the decoder takes with them, weights included."""

    slots: int
    taken: int


def with_slots(config: TrainConfig, slots: int) -> TrainConfig:
    """The config with this number of slots."""
    return dataclasses.replace(config, rollout=dataclasses.replace(config.rollout, slots=slots))


def free_bytes(network: Network, mesh: Mesh, copied: bool) -> float:
    """Of one device now, for all that the decoder needs, weights included.

    copied   the decoder's weights are yet to come
    """
    stats = mesh.local_devices[0].memory_stats() or {}
    if "bytes_limit" not in stats:
        return _OF_CPUS * shapes_lib.device_bytes(mesh)
    weights = 0 if copied else shapes_lib.weight_bytes(network) // mesh.shape["tensor"]
    return _SPARE * stats["bytes_limit"] - stats["bytes_in_use"] + weights


def most(config: TrainConfig, network: Network, mesh: Mesh, free: float) -> int:
    """Slots whose cache fits in `free` bytes of one device, at most one for each of a step's
    answers; a multiple of the devices that share them.

    network, mesh   the decoder's

    Raises `UserError` where not one a device fits.
    """
    devices, answers = sharding.batch_devices(mesh), config.rollout.questions
    answers *= config.rollout.samples
    wanted = math.ceil(answers / devices)
    slot = shapes_lib.slot_bytes(with_slots(config, answers), network, devices, mesh.size)
    fitting = int(free / slot)
    if _WHOLE < fitting < wanted:
        fitting -= fitting % _WHOLE
    fitting = min(fitting, wanted)
    if fitting < 1:
        raise UserError(
            f"config.rollout.slots is auto, but not one fits: its cache needs {slot / 2**30:.2f} "
            f"GiB on a device, and {max(free, 0) / 2**30:.2f} GiB is free. "
            "config.rollout.precision=int8 halves that"
        )
    return fitting * devices


def fit(
    config: TrainConfig, network: Network, mesh: Mesh, free: float, stop_ids: tuple[int, ...] = (0,)
) -> Fitted:
    """The most slots with which every program of the decoder fits, by the compiler.

    network, mesh   the decoder's
    free            bytes of one device for all that the decoder needs, weights included

    Raises `UserError` where not one a device fits.
    """
    specs = parameters.param_specs(network.cfg)
    placed = sharding.param_shardings(specs, mesh, sharding.DECODING_RULES)
    weights = parameters.describe(specs, placed, network.dtype)
    devices, held = sharding.batch_devices(mesh), sharding.bytes_each(weights)
    room = free - held
    while True:
        slots = most(config, network, mesh, room)
        decoder = described.Decoder.of(with_slots(config, slots), network, mesh)
        taken = _largest(decoder, weights, stop_ids, Sampling.of(config))
        if taken <= free:
            return Fitted(slots, int(taken))
        each, slot = (
            slots // devices,
            shapes_lib.slot_bytes(with_slots(config, slots), network, devices, mesh.size),
        )
        over = 0 if math.isinf(taken) else math.ceil((taken - free) / slot)
        # so that the arithmetic gives as many fewer as are too many, and a sixteenth at least
        room = (each - max(over, each // 16, 1)) * slot * (1 + 1e-9)


def _largest(
    decoder: described.Decoder, weights: object, stop_ids: tuple[int, ...], sampling: Sampling
) -> float:
    """Bytes of one device while the largest of the decoder's programs runs."""
    largest = 0.0
    for program in decoder.programs(weights, stop_ids, sampling).values():
        try:
            with jax.sharding.use_abstract_mesh(decoder.mesh.abstract_mesh):
                compiled = program.lower().compile()
        except jax.errors.JaxRuntimeError as error:
            if not memory.is_exhausted(error):
                raise
            return math.inf
        largest = max(largest, memory.program_bytes(compiled) + program.beside)
    return largest
