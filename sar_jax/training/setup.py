"""A training run put together: model, data, checkpoint and every jitted function, from a config.

    setup(config, workdir) -> Run, States, data iterator, step reached

Everything that is wrong with the options shows here, the cheap checks first.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from etils import epath
from jax.sharding import Mesh

from sar_jax import config as config_lib
from sar_jax import structs
from sar_jax.errors import UserError
from sar_jax.model import download, hf, int8, lora, parameters
from sar_jax.model import network as network_lib
from sar_jax.parallel import multihost, sharding
from sar_jax.rl import alarms, alpha
from sar_jax.rollout import sampler
from sar_jax.rollout import shapes as shapes_lib
from sar_jax.text import prompts
from sar_jax.text.answers.verifier import ErrorShare, Verifier
from sar_jax.training import checkpoints as checkpoints_lib
from sar_jax.training import critic as critic_lib
from sar_jax.training import experience, handover, learner, score
from sar_jax.training import metrics as metrics_lib
from sar_jax.training import questions as questions_lib
from sar_jax.training import workdir as workdir_lib
from sar_jax.training.learner import States


class Run(NamedTuple):
    """Everything that stays the same from step to step."""

    config: config_lib.TrainConfig
    workdir: epath.Path
    tools: experience.Tools
    update: Any
    greedy: Any
    eval_rows: list[prompts.Question]
    reference: Any | None
    checkpoints: checkpoints_lib.Checkpoints
    metrics: metrics_lib.Metrics
    num_params: int
    questions: str  # fingerprint of the training data
    alpha: alpha.Weight  # of the self-aligned reward
    watch: alarms.Watch
    critic: critic_lib.Critic | None
    frozen: (
        parameters.Params
    )  # what the policy needs beside what learns: the base of adapters, else nothing


class Learned(NamedTuple):
    """What learns, and the way from there to the weights that score and decode.

    cfg, specs: of score and update, and of what learns; load(): its first values; frozen: see
    `Run`; the rest: see `experience.Tools`."""

    cfg: parameters.ModelConfig
    specs: Any
    load: Callable[[], parameters.Params]
    frozen: parameters.Params
    reference: Any | None
    fetch_reference: Callable[[Any], Any]
    cast: Callable[[Any], Any]
    hand_over: Callable[[Any], Any]


def setup(config: config_lib.TrainConfig, workdir: epath.Path) -> tuple[Run, States, Any, int]:
    """Loads everything. Returns the run, its states and data iterator, and the step that was
    reached (0 for a new run)."""
    multihost.first(lambda: workdir_lib.check(workdir, config))
    folder = download.locate(config.model.path)
    cfg, tokenizer = (
        hf.load_config(folder, config_lib.max_length(config)),
        prompts.load_tokenizer(folder),
    )
    _check_length(config, cfg)
    mesh, decoding = _meshes(config, cfg)
    kernel = network_lib.pick_kernel(config.model, cfg, mesh)
    prompter = prompts.Prompter(tokenizer, config.prompt, hf.read_stop_ids(folder))
    train_rows, eval_rows = questions_lib.load(config.data, prompter)
    multihost.same(config_lib.to_json(config), "the command's options")
    questions = questions_lib.fingerprint(train_rows)
    multihost.same(questions, f"the questions of {config.data.train}")

    policy = (_adapters if config.lora.rank else _whole)(config, folder, cfg, mesh, decoding)
    updates = config.rollout.questions // config.loss.minibatch_questions
    optimizer = learner.make_optimizer(
        config.optimizer, config.steps * updates, parameters.decays(policy.specs)
    )
    described = learner.describe_state(
        parameters.describe(policy.specs, sharding.param_shardings(policy.specs, mesh)), optimizer
    )
    critic = critic_lib.make(config, cfg, mesh) if config.advantage.estimator == "critic" else None
    processes = jax.process_count()
    iterator = questions_lib.batches(
        train_rows,
        config.rollout.questions // processes,
        config.seed,
        jax.process_index(),
        processes,
    )
    multihost.first(lambda: workdir_lib.claim(workdir, config))
    checkpoints = checkpoints_lib.Checkpoints(workdir, config.checkpoint.keep)
    step = checkpoints.latest()
    if step is None:
        states = States(
            learner.init_state(policy.load(), optimizer),
            critic and learner.init_state(critic_lib.load(folder, cfg, mesh), critic.optimizer),
        )
    else:
        states = checkpoints.restore(
            step, States(described, critic and critic.described), iterator, questions
        )
        print(f"resumed at step {step} from {checkpoints.folder}")

    rollout, chunk = config.rollout, config.packing.logprob_chunk
    plain, graphdef = (
        network_lib.build(c, config.model.dtype, config.model.remat, kernel)
        for c in (int8.described(cfg, rollout.weights_dtype), policy.cfg)
    )
    decoder = functools.partial(
        sampler.make_sample,
        plain,
        prompter.stops,
        max_answer_tokens=rollout.max_answer_tokens,
        slots=rollout.slots,
        sampling=structs.Sampling.of(config),
        cache_dtype=rollout.cache_dtype,
    )
    shapes_lib.check_memory(
        config, cfg, decoding, config.model.dtype != "float32" or decoding != mesh
    )
    tools = experience.Tools(
        decoder(rollout.samples),
        score.make_score(graphdef, chunk),
        prompter,
        mesh,
        config,
        Verifier(config.verification.workers, config.verification.timeout),
        ErrorShare(
            config.verification.max_error_share, rollout.questions * rollout.samples // processes
        ),
        policy.cast,
        policy.hand_over,
        policy.fetch_reference,
        critic and critic.values,
    )
    run = Run(
        config,
        workdir,
        tools,
        update=learner.make_update(
            described, optimizer, learner.make_policy_loss(graphdef, config.loss, chunk)
        ),
        greedy=decoder(1, greedy=True),
        eval_rows=eval_rows,
        reference=policy.reference,
        checkpoints=checkpoints,
        metrics=metrics_lib.Metrics(workdir, step, writes=multihost.is_first()),
        num_params=parameters.count_params(cfg),
        questions=questions,
        alpha=alpha.Weight(config, None if step is None else checkpoints.meta(step).get("alpha")),
        watch=alarms.Watch(config.guards),
        critic=critic,
        frozen=policy.frozen,
    )
    run.watch.remember(run.metrics.read() if step else [])
    return run, states, iterator, step or 0


def _meshes(config: config_lib.TrainConfig, cfg: parameters.ModelConfig) -> tuple[Mesh, Mesh]:
    """The mesh of training and that of decoding. Raises `UserError` where the devices do not fit
    model or batches."""
    if config.rollout.questions % jax.process_count():
        raise UserError(
            f"config.rollout.questions is {config.rollout.questions}: it must be a multiple of the "
            f"{jax.process_count()} processes"
        )
    mesh = sharding.make_mesh(**dataclasses.asdict(config.mesh))
    sharding.check_tensor(mesh, cfg.num_kv_heads)
    sharding.check_rows(mesh, packing__rows_per_microbatch=config.packing.rows_per_microbatch)
    decoding = sharding.decoding_mesh(mesh, config.rollout.tensor, cfg.num_kv_heads)
    return mesh, decoding


def _whole(
    config: config_lib.TrainConfig,
    folder: str,
    cfg: parameters.ModelConfig,
    mesh: Mesh,
    decoding: Mesh,
) -> Learned:
    """All weights learn. The reference is None without a KL term; it may wait in host memory."""
    specs, dtype = parameters.param_specs(cfg), config.model.dtype
    shardings = sharding.param_shardings(specs, mesh)
    reference, fetch = None, lambda reference: reference
    if config_lib.needs_reference(config) and config.model.offload_reference:
        on_host = jax.tree.map(lambda s: s.with_memory_kind("pinned_host"), shardings)
        reference = hf.load_params(folder, cfg, on_host, dtype)
        fetch = lambda reference: jax.device_put(reference, shardings)
    elif config_lib.needs_reference(config):
        reference = hf.load_params(folder, cfg, shardings, dtype)
    light = int8.described(cfg, config.rollout.weights_dtype)
    return Learned(
        cfg,
        specs,
        lambda: hf.load_params(folder, cfg, shardings),
        {},
        reference,
        fetch,
        handover.make_cast(cfg, mesh, dtype),
        handover.make_hand_over(light, mesh, decoding, dtype),
    )


def _adapters(
    config: config_lib.TrainConfig,
    folder: str,
    cfg: parameters.ModelConfig,
    mesh: Mesh,
    decoding: Mesh,
) -> Learned:
    """Adapters learn. The base serves policy and reference; the reference's adapters are those that
    change nothing."""
    adapted, dtype = lora.adapted(cfg, config.lora), config.model.dtype
    shardings = sharding.param_shardings(parameters.param_specs(cfg), mesh)
    own = sharding.param_shardings(lora.specs(adapted), mesh)
    base = hf.load_params(folder, cfg, shardings, dtype)
    init = jax.jit(functools.partial(lora.init, adapted), out_shardings=own)
    cast = jax.jit(
        lambda masters: jax.tree.map(lambda x: x.astype(dtype), masters), out_shardings=own
    )
    load = lambda: init(jax.random.key(config.seed))
    fold = jax.jit(functools.partial(lora.folded, adapted), out_shardings=shardings)
    hand_over = handover.make_hand_over(
        int8.described(cfg, config.rollout.weights_dtype), mesh, decoding, dtype
    )
    return Learned(
        adapted,
        lora.specs(adapted),
        load,
        base,
        lora.merged(base, cast(load())) if config_lib.needs_reference(config) else None,
        lambda reference: reference,
        lambda masters: lora.merged(base, cast(masters)),
        lambda masters: hand_over(fold(base, masters)),
    )


def _check_length(config: config_lib.TrainConfig, cfg: parameters.ModelConfig) -> None:
    longest = config_lib.max_length(config)
    if longest > cfg.max_positions:
        raise UserError(
            f"config.data.max_prompt_tokens + config.rollout.max_answer_tokens is {longest}: the model was made "
            f"for {cfg.max_positions} positions (max_position_embeddings)"
        )
