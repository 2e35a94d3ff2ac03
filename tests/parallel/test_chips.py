"""The one table of chips: what a device is of its chip, in a run and for the compiler."""

import pytest
from support.devices import described

from sar_jax.parallel import chips


def device(kind, number, coords=None, slice_index=0):
    place = {} if coords is None else {"coords": coords}
    return described(device_kind=kind, id=number, slice_index=slice_index, **place)


def test_a_v4_of_a_run_is_a_chip_and_for_the_compiler_half_a_chip():
    """275 Tflop/s a chip; a TPU VM shows chips as devices, the compiler its two cores."""
    run = [device("TPU v4", i, (i, 0, 0)) for i in range(4)]
    cores = [device("TPU v4", i, (i // 2, 0, 0)) for i in range(8)]
    assert chips.devices_a_chip(run) == 1 and chips.peak_flops(run) == 275e12
    assert chips.devices_a_chip(cores) == 2 and chips.peak_flops(cores) == 137.5e12


def test_slices_repeat_coordinates_and_are_other_chips():
    two = [device("TPU7x", i, (i % 4 // 2, 0, 0), slice_index=i // 4) for i in range(8)]
    assert chips.devices_a_chip(two) == 2 and chips.peak_flops(two) == 2307e12 / 2


def test_gpus_are_chips_and_what_is_not_known_has_no_peak():
    assert chips.peak_flops([device("NVIDIA H200", i) for i in range(8)]) == 989e12
    assert chips.peak_flops([device("cpu", 0)]) is None


def test_every_chip_of_the_plan_has_its_peak_in_a_run():
    """One table: what plan divides by is what mfu divides by."""
    for chip in chips.CHIPS.values():
        assert chips.peak_flops([device(chip.kind, 0, (0, 0, 0))]) == chip.flops


@pytest.mark.parametrize(
    "name, count, devices, hbm",
    [("v4:2x2x1", 4, 8, 15.25), ("v5e:2x2", 4, 4, 15.75), ("tpu7x:2x2x1", 4, 8, 94.74)],
)
def test_slices_of_the_compiler(tpu_compiler, name, count, devices, hbm):
    found = chips.describe(name)
    assert (found.chips, len(found.devices)) == (count, devices)
    assert found.device.hbm == pytest.approx(hbm * 2**30)
    assert found.devices[0].device_kind == chips.CHIPS[name.split(":")[0]].kind
