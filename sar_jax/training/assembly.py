"""Every jitted function of a run, made once from descriptions: no array exists yet.

    assemble(config, cfg, mesh) -> Assembly    `setup` loads arrays into its functions and runs
                                               them; `planning.programs` lowers them for devices
                                               that need not exist

    masters --cast-->      weights            --score-->   logprobs      policy and reference alike
            --hand_over--> decoding weights   --sample-->  answers
            --update-->    masters                                       for each mini-batch

With adapters (LoRA) the masters are these alone; `fold` adds them to their frozen base before the
weights for decoding are made.
"""

import dataclasses
import functools
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from sar_jax import config as config_lib
from sar_jax.model import int8, lora, parameters
from sar_jax.model.network import Network
from sar_jax.model.parameters import ModelConfig, Params
from sar_jax.parallel import sharding
from sar_jax.rollout import shapes as shapes_lib
from sar_jax.training import critic as critic_lib
from sar_jax.training import handover, learner, score
from sar_jax.training.settings import derived


@dataclasses.dataclass(frozen=True)
class Assembly:
    """The functions of a run and what they are functions of.

    mesh, decoding   where score and update, and where the decoder run
    base             the model without adapters
    network          of score and update
    decoder          of the decoder
    specs            what learns, as `parameters.ParamSpec`s
    cast             masters -> weights; None where the masters serve as they are
    hand_over        masters, or the base with adapters -> decoding weights; None where these are
                     the weights
    fold             (base, adapters) -> base with adapters; None without adapters
    critic           None without one
    """

    mesh: Mesh
    decoding: Mesh
    base: Network
    network: Network
    decoder: Network
    specs: Any
    optimizer: optax.GradientTransformation
    score: score.Score
    update: learner.Update
    cast: handover.Cast | None
    hand_over: handover.Cast | None
    fold: Any
    critic: critic_lib.Critic | None

    def programs(self, config: config_lib.TrainConfig) -> dict[str, str]:
        """The functions that a run compiles, by the names that JAX has for them, in words."""
        devices = sharding.batch_devices(self.decoding)
        shapes = shapes_lib.of_config(config, self.decoder, devices)
        several = len(shapes.sizes) > 1 or len(shapes.columns) > 1
        hand_over = "lighter" if self.decoding == self.mesh else "hand_over"
        found = {
            "folded": "adapters" if self.fold else "",
            hand_over: "weights for decoding" if self.hand_over else "",
            "cast": "weights" if self.cast else "",
            "prefill": "prefill",
            "create": "slots",
            "insert": "insert",
            "decode": "decode",
            "resize": "resize" if several else "",
            "score_rows": "score",
            "value_rows": "values" if self.critic else "",
            "zeros": "sums",
            "add": "gradient",
            "apply": "update",
        }
        return {name: words for name, words in found.items() if words}

    def scoring_weights(self, masters: Params, frozen: Params) -> Params:
        """What `score` takes. frozen: the base of adapters, {} without adapters."""
        cast = self.cast(masters) if self.cast else masters
        return lora.merged(frozen, cast)

    def decoding_weights(self, masters: Params, frozen: Params) -> Params:
        """What the decoder takes."""
        if self.fold is not None:
            masters = self.fold(frozen, masters)  # in the compute dtype already
            return self.hand_over(masters) if self.hand_over else masters
        hand_over = self.hand_over or self.cast
        return hand_over(masters) if hand_over else masters


def assemble(config: config_lib.TrainConfig, cfg: ModelConfig, mesh: Mesh) -> Assembly:
    """The functions of a run of `config` on `mesh`, whose devices need not exist.

    Raises `UserError` where the devices do not fit the model, or lack an attention kernel.
    """
    base = Network.of(config.model, cfg, mesh)
    network, specs, fold = base, parameters.param_specs(cfg), None
    if config.lora.rank:
        adapted = lora.adapted(cfg, config.lora)
        network, specs = dataclasses.replace(base, cfg=adapted), lora.specs(adapted)
        fold = jax.jit(
            functools.partial(lora.folded, adapted),
            out_shardings=sharding.param_shardings(parameters.param_specs(cfg), mesh),
        )
    light = int8.described(cfg, config.rollout.weights_dtype)
    decoding = sharding.decoding_mesh(mesh, config.rollout.tensor, cfg.num_kv_heads)
    optimizer = learner.make_optimizer(
        config.optimizer, derived.total_updates(config), parameters.decays(specs)
    )
    chunk = config.packing.logprob_chunk
    masters = parameters.describe(specs, sharding.param_shardings(specs, mesh))
    return Assembly(
        mesh=mesh,
        decoding=decoding,
        base=base,
        network=network,
        decoder=dataclasses.replace(base, cfg=light),
        specs=specs,
        optimizer=optimizer,
        score=score.make_score(network, chunk),
        update=learner.make_update(
            learner.describe_state(masters, optimizer),
            optimizer,
            learner.make_policy_loss(network, config.loss, chunk),
        ),
        cast=handover.make_cast(specs, mesh, config.model.dtype),
        hand_over=handover.make_hand_over(light, mesh, decoding, config.model.dtype),
        fold=fold,
        critic=critic_lib.make(config, base, mesh)
        if config.advantage.estimator == "critic"
        else None,
    )
