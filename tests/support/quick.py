"""`pytest -m quick`: which tests it runs. Something of every folder of the package, a whole run
among it, in under a minute on two cores.

Each line is the beginning of a test's name below tests/: a file, or tests in it."""

QUICK = (
    "text/test_labels.py::test_choice",
    "text/test_prompts.py",
    "text/test_control.py::test_every_control_token",
    "text/test_judge.py::test_every_number_verifies_against_itself_alone",
    "text/test_verifier.py::test_outcomes_come_in_the_order_of_the_items",
    "rl/test_rewards.py",
    "rl/test_baselines.py",
    "rl/test_advantages.py",
    "rl/test_packing.py",
    "rl/test_alpha.py",
    "rl/test_losses.py::test_policy_loss",
    "parallel/test_chips.py::test_a_v4",
    "parallel/test_sharding.py::test_a_decoding_mesh",
    "parallel/test_sharding.py::test_a_lookups_gradient",
    "model/test_columns.py",
    "model/test_flops.py::test_the_plan",
    "model/test_attention.py::test_equals_one_query_at_a_time[xla-window",
    "model/test_network.py::test_padding_on_either_side_changes_nothing[gemma3_text",
    "model/test_hf.py::test_folder_to_params_to_folder_is_bit_equal[phi3-30KB-False",
    "rollout/test_seats.py",
    "rollout/test_draw.py::test_top_k_keeps_k",
    "rollout/test_sampler.py::test_sampler_logps_equal_scorer_logps",
    "evaluation/test_measures.py",
    "training/test_questions.py::test_an_epoch_holds_each_row_once",
    "training/test_questions.py::test_an_iterator_resumes_exactly",
    "training/test_records.py",
    "training/test_variants.py::test_each_variant",
    "planning/test_hlo.py::test_bytes_of_each_collective",
    "planning/test_plan.py::test_advice",
    "test_config_fields.py::test_defaults_are_the_published_settings",
    "test_config.py::test_a_faulty_training_config_names_the_field",
    "test_fields.py::test_an_unknown_field",
    "test_imports.py::test_each_world_imports_what_its_rule_allows",
    "test_train.py::test_self_aligned_reward_alone_warns",
)


def is_quick(name: str) -> bool:
    """Of a test's name below tests/."""
    return name.startswith(QUICK)


def has_quick(file: str) -> bool:
    """Does a file below tests/ hold quick tests?"""
    return any(entry.partition("::")[0] == file for entry in QUICK)
