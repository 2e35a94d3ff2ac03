"""What makes a model another one."""

import json
import shutil

from sar_jax.training.storage import identity


def test_an_adapters_settings_are_part_of_its_weights_and_its_bases_place_is_not(
    hf_folder, tmp_path
):
    folder = shutil.copytree(hf_folder, tmp_path / "model")
    plain = identity.of_model(str(folder))

    def found(**settings):
        (folder / "adapter_config.json").write_text(json.dumps(settings))
        return identity.of_model(str(folder))

    first = found(lora_alpha=8, base_model_name_or_path="a")
    differs = lambda other: [name for name in first if first[name] != other[name]]
    assert differs(plain) == ["the weights"]
    assert differs(found(lora_alpha=16, base_model_name_or_path="a")) == ["the weights"]
    assert not differs(found(lora_alpha=8, base_model_name_or_path="b"))
