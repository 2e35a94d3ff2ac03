"""A training run put together: model, data, checkpoint and every jitted function, from a config.

setup(config, workdir) -> Run, States, data iterator, step reached

read       config.json, tokenizer, devices, questions: everything that may be wrong with the
           options shows here, the cheap checks first
assemble   the jitted functions, from descriptions                         (`assembly`)
load       weights, or a checkpoint's state
"""

import dataclasses
import datetime
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from etils import epath
from jax.sharding import Mesh

from sar_jax import config as config_lib
from sar_jax import files
from sar_jax.errors import UserError
from sar_jax.model import download, hf, lora, parameters
from sar_jax.model.parameters import ModelConfig, Params
from sar_jax.parallel import multihost, sharding
from sar_jax.rl import alarms, alpha, gap
from sar_jax.rollout import shapes as shapes_lib
from sar_jax.rollout.sampler import Sample
from sar_jax.structs import Sampling
from sar_jax.text import carried, prompts
from sar_jax.text.answers import chosen, model_judge
from sar_jax.text.answers.verifier import ErrorShare, Verifier
from sar_jax.training import critic as critic_lib
from sar_jax.training import learner, slots
from sar_jax.training import questions as questions_lib
from sar_jax.training.assembly import Assembly, assemble
from sar_jax.training.learner import States
from sar_jax.training.own import families as own_families
from sar_jax.training.own import rewards as own_rewards
from sar_jax.training.own import sources as own_sources
from sar_jax.training.reporting import loggers as loggers_lib
from sar_jax.training.reporting import metrics as metrics_lib
from sar_jax.training.reporting import trackers as trackers_lib
from sar_jax.training.rollouts import Tools
from sar_jax.training.settings import checks, derived
from sar_jax.training.storage import checkpoints as checkpoints_lib
from sar_jax.training.storage import workdir as workdir_lib
from sar_jax.training.storage.checkpoints import Resumed
from sar_jax.training.storage.identity import Identity, of_model
from sar_jax.training.storage.lock import Lock


class Run(NamedTuple):
    """Everything that stays the same from step to step.

    greedy      the decoder of evaluations
    reference   parameters of the initial policy; None where nothing is compared with it
    frozen      what the policy needs and does not learn: the base of adapters, else {}
    alpha       the self-aligned reward's weight
    gap         says which steps score what was sampled
    watch       the alarms
    """

    config: config_lib.TrainConfig
    workdir: epath.Path
    assembly: Assembly
    tools: Tools
    greedy: Sample
    eval_rows: list[prompts.Question]
    reference: Params | None
    frozen: Params
    checkpoints: checkpoints_lib.Checkpoints
    metrics: metrics_lib.Metrics
    alpha: alpha.Weight
    gap: gap.Gap
    watch: alarms.Watch


class Started(NamedTuple):
    """A run and where it is: step 0 for a new one."""

    run: Run
    states: States
    iterator: Any
    step: int


class Inputs(NamedTuple):
    """What the options name, without the weights. folder: of the model's files."""

    folder: str
    cfg: ModelConfig
    mesh: Mesh
    prompter: prompts.Prompter
    train_rows: list[prompts.Question]
    eval_rows: list[prompts.Question]
    fingerprint: str


class Own(NamedTuple):
    """Rewards of one's own, and the verifier, whoever made it; meter: what a judge took."""

    rewards: list[own_rewards.OwnReward]
    verifier: Verifier
    meter: Callable[[], dict[str, float]]


class Learned(NamedTuple):
    """What a run learns from.

    load              gives the first values of what learns
    frozen            see `Run`
    reference         see `Run`; it may wait in host memory
    fetch_reference   brings it to the devices
    """

    load: Callable[[], Params]
    frozen: Params
    reference: Params | None
    fetch_reference: Callable[[Params], Params]


def setup(
    config: config_lib.TrainConfig, workdir: epath.Path, lock: Lock, extend: bool = False
) -> Started:
    """Loads everything. Raises `UserError` for what is wrong with the options or the files.

    lock     of the workdir; it is taken as soon as there is one
    extend   see `workdir.check`
    """
    facts = workdir_lib.Facts(*multihost.first(lambda: list(_facts(config, workdir, lock))))
    folder = download.locate(config.model.path, facts.revision)
    facts = facts._replace(revision=download.revision_of(folder))
    config = _asked(config, folder)
    multihost.first(lambda: _check(config, workdir, extend))
    own_rewards.load(config)  # before the data: a typo in its name costs nothing
    inputs = _read(config, folder, facts.day)
    own = _rehearsed(config, workdir, inputs.train_rows)
    identity = Identity(
        facts.run, multihost.first(lambda: of_model(inputs.folder)), inputs.fingerprint
    )
    assembly = assemble(config, inputs.cfg, inputs.mesh)
    learned = _load_learned(config, inputs, assembly)
    processes = jax.process_count()
    own_questions = config.rollout.questions // processes
    iterator = questions_lib.batches(
        inputs.train_rows, own_questions, config.seed, jax.process_index(), processes
    )
    multihost.first(lambda: _claim(config, workdir, lock, facts))
    patience = config.checkpoint.retry_seconds
    checkpoints = checkpoints_lib.Checkpoints(workdir, identity, config.checkpoint.keep, patience)
    resumed = checkpoints.resume(_described_states(assembly), iterator)
    if resumed is None:
        resumed = Resumed(_first_states(inputs, assembly, learned), 0, None)
        checkpoints.compile(resumed.states)
    else:
        print(f"resumed at step {resumed.step} from {checkpoints.folder}")
    copied = assembly.hand_over is not None or assembly.cast is not None
    config = slots.of_run(config, workdir, facts, assembly, copied)
    shapes_lib.check_memory(config, assembly.decoder, assembly.decoding, copied)
    run = Run(
        config,
        workdir,
        assembly,
        _tools(config, inputs, assembly, learned, own),
        greedy=_decoder(config, inputs, assembly)(1, greedy=True),
        eval_rows=inputs.eval_rows,
        reference=learned.reference,
        frozen=learned.frozen,
        checkpoints=checkpoints,
        metrics=_metrics(config, workdir, facts.run, resumed.step or None),
        alpha=alpha.Weight(config, resumed.alpha),
        gap=gap.Gap(config.loss.old_logps, config.evaluation.every_steps),
        watch=alarms.Watch(config.guards),
    )
    before = run.metrics.read() if resumed.step else []
    run.watch.remember(before)
    run.gap.remember(before)
    return Started(run, resumed.states, iterator, resumed.step)


def _metrics(
    config: config_lib.TrainConfig, workdir: epath.Path, run: str, resumed: int | None
) -> metrics_lib.Metrics:
    """Of this process; the first one alone writes. run: its id; resumed: the step, if it was."""
    if not multihost.is_first():
        return metrics_lib.Metrics(workdir, resumed, writes=False)
    return metrics_lib.Metrics(
        workdir,
        resumed,
        patience=config.checkpoint.retry_seconds,
        board="tensorboard" in trackers_lib.named(config.logging.to),
        loggers=loggers_lib.Loggers(config, workdir, run),
    )


def _facts(config: config_lib.TrainConfig, workdir: epath.Path, lock: Lock) -> workdir_lib.Facts:
    """What a run in the workdir has from its beginning; it is locked if it is there."""
    facts = workdir_lib.facts(workdir)
    if not (workdir / "config.json").is_file():
        return facts
    lock.take()
    same = workdir_lib.read_config(workdir).model.path == config.model.path
    return facts if same else facts._replace(revision=None)


def _asked(config: config_lib.TrainConfig, folder: str) -> config_lib.TrainConfig:
    """The config with the prompt that the model's folder carries, where it has one."""
    found = carried.read(folder)
    if found is None:
        return config
    prompt = found.asked(config.prompt)
    if prompt != config.prompt:
        print(
            f"config.prompt is what {folder}/{carried.NAME} says, where the config has defaults: "
            f"{prompt}",
            flush=True,
        )
    return dataclasses.replace(config, prompt=prompt)


def _check(config: config_lib.TrainConfig, workdir: epath.Path, extend: bool) -> None:
    said = workdir_lib.check(workdir, config, extend)
    for line in [*said, *own_sources.changed(workdir, config)]:
        print(line, flush=True)


def _claim(
    config: config_lib.TrainConfig, workdir: epath.Path, lock: Lock, facts: workdir_lib.Facts
) -> None:
    workdir.mkdir(parents=True, exist_ok=True)
    lock.take()
    workdir_lib.claim(workdir, config, facts)
    own_sources.write(workdir, config)


def _read(config: config_lib.TrainConfig, folder: str, day: datetime.date) -> Inputs:
    """Everything but the weights; every process has to read the same.

    day   on which the run began
    """
    own_families.use(config.model.families)
    cfg = hf.load_config(folder, config_lib.max_length(config))
    tokenizer = prompts.load_tokenizer(folder)
    checks.check_positions(config, cfg.max_positions)
    mesh = _make_mesh(config, cfg)
    stops = sorted({*hf.read_stop_ids(folder), *carried.stops(folder)})
    prompter = prompts.Prompter(tokenizer, config.prompt, stops, cfg.vocab_size, day)
    if prompter.asks_day:
        print(f"every prompt of the run has its date{prompter.told_day()}", flush=True)
    train_rows, eval_rows = questions_lib.load(config.data, prompter, config.verification)
    if told := questions_lib.repeated(len(train_rows), config.rollout.questions):
        print(told, flush=True)
    multihost.same(config_lib.to_json(config), "the command's options")
    fingerprint = questions_lib.fingerprint(train_rows)
    multihost.same(fingerprint, f"the questions of {config.data.train}")
    return Inputs(folder, cfg, mesh, prompter, train_rows, eval_rows, fingerprint)


def _make_mesh(config: config_lib.TrainConfig, cfg: ModelConfig) -> Mesh:
    """The mesh of training. Raises `UserError` where the devices do not fit model or batches."""
    if config.rollout.questions % jax.process_count():
        raise UserError(
            f"config.rollout.questions is {config.rollout.questions}: it must be a multiple of the "
            f"{jax.process_count()} processes"
        )
    mesh = sharding.make_mesh(**dataclasses.asdict(config.mesh))
    sharding.check_tensor(mesh, cfg.num_kv_heads)
    sharding.check_rows(mesh, packing__rows_per_microbatch=config.packing.rows_per_microbatch)
    return mesh


def _load_learned(config: config_lib.TrainConfig, inputs: Inputs, assembly: Assembly) -> Learned:
    """The weights that do not learn, and how to load those that do."""
    whole = sharding.param_shardings(parameters.param_specs(inputs.cfg), inputs.mesh)
    load = functools.partial(hf.load_params, inputs.folder, inputs.cfg)
    if config.lora.rank:
        return _load_adapters(config, assembly, base=load(whole, config.model.dtype))
    reference, fetch = None, lambda reference: reference
    if derived.needs_reference(config):
        waiting = whole
        if config.model.offload_reference:
            waiting = jax.tree.map(lambda s: s.with_memory_kind("pinned_host"), whole)
            fetch = lambda reference: jax.device_put(reference, whole)
        reference = load(waiting, config.model.dtype)
    return Learned(lambda: load(whole), {}, reference, fetch)


def _load_adapters(config: config_lib.TrainConfig, assembly: Assembly, base: Params) -> Learned:
    """Adapters learn; the base serves policy and reference.

    The reference's adapters are those that change nothing.
    """
    own = sharding.param_shardings(assembly.specs, assembly.mesh)
    init = jax.jit(functools.partial(lora.init, assembly.network.cfg), out_shardings=own)
    load = lambda: init(jax.random.key(config.seed))
    reference = None
    if derived.needs_reference(config):
        reference = assembly.scoring_weights(load(), base)
    return Learned(load, base, reference, lambda reference: reference)


def _first_states(inputs: Inputs, assembly: Assembly, learned: Learned) -> States:
    policy = learner.init_state(learned.load(), assembly.optimizer)
    if assembly.critic is None:
        return States(policy, None)
    params = critic_lib.load(inputs.folder, inputs.cfg, inputs.mesh)
    return States(policy, learner.init_state(params, assembly.critic.optimizer))


def _described_states(assembly: Assembly) -> States:
    critic = assembly.critic
    return States(assembly.update.described, critic and critic.update.described)


def _decoder(
    config: config_lib.TrainConfig, inputs: Inputs, assembly: Assembly
) -> Callable[..., Sample]:
    """Makes decoders of the run's settings, from answers a question."""
    rollout = config.rollout
    return functools.partial(
        Sample,
        assembly.decoder,
        inputs.prompter.decoder_stops,
        max_answer_tokens=rollout.max_answer_tokens,
        slots=rollout.slots,
        sampling=Sampling.of(config),
        cache_dtype=rollout.cache_dtype,
        ended=inputs.prompter.stopping.length if config.prompt.stop else None,
    )


def _rehearsed(
    config: config_lib.TrainConfig, workdir: epath.Path, rows: list[prompts.Question]
) -> Own:
    """Rewards and verifier, tried before anything slow starts. Raises `UserError`."""
    rewards = own_rewards.load(config)
    own_rewards.rehearse(rewards, rows)
    kept = (
        None if files.is_remote(workdir) else str(workdir / model_judge.name(jax.process_index()))
    )
    verifier = chosen.verifier(config.verification, kept)
    try:
        chosen.rehearse(verifier, config.verification, rows[0].example)
    except BaseException:
        verifier.close()
        raise
    return Own(rewards, verifier, _meter(config, kept))


def _meter(config: config_lib.TrainConfig, kept: str | None) -> Callable[[], dict[str, float]]:
    """What a judge took since the last step, of all processes; nothing without one."""
    if config.verification.verifier != chosen.JUDGE:
        return dict
    total = [model_judge.usage(kept)]

    def metrics() -> dict[str, float]:
        now = model_judge.usage(kept)
        gathered = multihost.gather([b - a for a, b in zip(total[0], now)])
        total[0] = now
        calls, tokens = (float(sum(values)) for values in zip(*gathered))
        return {"verifier/judge_calls": calls, "verifier/judge_tokens": tokens}

    return metrics


def _tools(
    config: config_lib.TrainConfig,
    inputs: Inputs,
    assembly: Assembly,
    learned: Learned,
    own: Own,
) -> Tools:
    rollout, limits = config.rollout, config.verification
    own_answers = rollout.questions * rollout.samples // jax.process_count()
    with_base = lambda make: functools.partial(make, frozen=learned.frozen)
    return Tools(
        config=config,
        prompter=inputs.prompter,
        sample=_decoder(config, inputs, assembly)(rollout.samples),
        verifier=own.verifier,
        errors=ErrorShare(limits.max_error_share, own_answers),
        mesh=inputs.mesh,
        score=assembly.score,
        values=assembly.critic and assembly.critic.values,
        scoring_weights=with_base(assembly.scoring_weights),
        decoding_weights=with_base(assembly.decoding_weights),
        fetch_reference=learned.fetch_reference,
        rewards=own.rewards,
        meter=own.meter,
    )
