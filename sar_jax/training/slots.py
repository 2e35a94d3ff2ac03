"""The number of slots of a run or an evaluation, where `rollout.slots` is "auto"."""

from etils import epath
from jax.sharding import Mesh

from sar_jax.config import TrainConfig
from sar_jax.errors import UserError
from sar_jax.model.network import Network
from sar_jax.parallel import multihost
from sar_jax.rollout import fitting
from sar_jax.rollout import shapes as shapes_lib
from sar_jax.training.assembly import Assembly
from sar_jax.training.storage import workdir as workdir_lib


def of_run(
    config: TrainConfig,
    workdir: epath.Path,
    facts: workdir_lib.Facts,
    assembly: Assembly,
    copied: bool,
) -> TrainConfig:
    """The config with the number of slots, which the workdir keeps for the next start.

    Everything that stays in memory must be there already; copied: but for the decoder's weights.

    Raises `UserError` where none fits.
    """
    if config.rollout.slots != "auto":
        return config
    network, mesh = assembly.decoder, assembly.decoding
    if facts.slots:
        kept = fitting.with_slots(config, facts.slots)
        # a device may have less memory than at the last start; all processes decide alike
        if all(multihost.gather(_fits(kept, network, mesh, copied))):
            return kept
    free = min(multihost.gather(fitting.free_bytes(network, mesh, copied)))
    found = fitting.fit(config, network, mesh, free)
    if multihost.is_first():
        print(
            f"rollout.slots=auto: {found.slots} slots, with which decoding takes "
            f"{found.taken / 2**30:.2f} of the {free / 2**30:.2f} GiB that a device has left",
            flush=True,
        )
        workdir_lib.write_facts(workdir, facts._replace(slots=found.slots))
    return fitting.with_slots(config, found.slots)


def _fits(config: TrainConfig, network: Network, mesh: Mesh, copied: bool) -> bool:
    try:
        shapes_lib.check_cache(config, network, mesh, copied)
    except UserError:
        return False
    return True


def of_decoder(config: TrainConfig, network: Network, mesh: Mesh) -> TrainConfig:
    """The same where there is nothing but a decoder, whose weights are yet to come."""
    if config.rollout.slots != "auto":
        return config
    free = min(multihost.gather(fitting.free_bytes(network, mesh, copied=True)))
    return fitting.with_slots(config, fitting.fit(config, network, mesh, free).slots)
