"""The device mesh and the rules that place arrays on it.

    logical axis of a parameter   --RULES-->   mesh axis ("data", "fsdp", "tensor")
    rows of a batch               --------->   ("data", "fsdp")

Every parameter names its logical axes in `parameters.param_specs`; a dimension that the mesh axis
does not divide is replicated. The mesh axes are Auto: XLA places the collectives, `constrain` pins
the activations.

Decoding reads every weight for each token, so it may not gather them: on `decoding_mesh` the same
devices hold whole copies of the model, each spread over "tensor" alone (DECODING_RULES), and "data"
and "fsdp" only divide the rows.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from sar_jax.errors import UserError

AXES = ("data", "fsdp", "tensor")
BATCH = ("data", "fsdp")
Axes = tuple[str | tuple[str, ...] | None, ...]  # of a mesh, one for each dimension
RULES: Mapping[str, str | None] = {
    "layers": None,
    "vocab": "tensor",
    "embed": "fsdp",
    "heads": "tensor",
    "kv_heads": "tensor",
    "head_dim": None,
    "ffw": "tensor",
    "rank": None,
}
DECODING_RULES = {**RULES, "embed": None}


def make_mesh(
    data: int, fsdp: int, tensor: int, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """A mesh over the devices.

    data, fsdp, tensor   devices along each axis; at most one is -1, which means all that remain
    devices              all of them by default

    "data" goes across TPU slices, and the other axes stay within one. Raises `UserError` if the
    sizes do not fit the devices.
    """
    sizes, devices = [data, fsdp, tensor], list(devices or jax.devices())
    asked, count = f"config.mesh {dict(zip(AXES, sizes))}", len(devices)
    if sizes.count(-1) > 1 or any(s == 0 or s < -1 for s in sizes):
        raise UserError(f"{asked}: sizes are positive, and one of them may be -1")
    known = int(np.prod([s for s in sizes if s != -1]))
    sizes = [count // known if s == -1 else s for s in sizes]
    if int(np.prod(sizes)) != count:
        raise UserError(f"{asked} does not multiply to the {count} devices")
    slices = len({getattr(d, "slice_index", 0) for d in devices if d.platform == "tpu"})
    if slices > 1:
        if sizes[0] % slices:
            raise UserError(
                f"{asked}: the devices belong to {slices} slices, so data must be a multiple of "
                f"{slices}"
            )
        placed = mesh_utils.create_hybrid_device_mesh(
            (sizes[0] // slices, *sizes[1:]),
            (slices, 1, 1),
            devices,
            allow_split_physical_axes=True,
        )
    else:
        placed = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    return Mesh(placed, AXES, axis_types=(AxisType.Auto,) * 3)


def decoding_mesh(mesh: Mesh, tensor: int, num_kv_heads: int) -> Mesh:
    """The devices of `mesh` in the same order, as copies of the model.

    tensor         devices that share a copy; -1: as many as share the kv heads evenly
    num_kv_heads   of the model

    "fsdp" is the last axis, so that the devices which hold a block of an fsdp-sharded dimension
    together are neighbours: to leave fsdp for tensor is then one gather among those, and one
    all-to-all (`handover`). Raises `UserError` where `tensor` does not divide the devices within a
    slice, or the kv heads.
    """
    data, within = mesh.shape["data"], mesh.shape["fsdp"] * mesh.shape["tensor"]
    most = math.gcd(within, num_kv_heads)
    size = most if tensor == -1 else tensor
    if within % size or num_kv_heads % size:
        raise UserError(
            f"config.rollout.tensor is {tensor}: it must divide the {within} devices (mesh.fsdp * "
            f"mesh.tensor) and the model's {num_kv_heads} kv heads; with -1 it is {most}"
        )
    if within // size == 1 and mesh.shape["fsdp"] == 1:
        return mesh  # it is one already
    devices = mesh.devices.reshape(data, size, within // size)
    return Mesh(devices, ("data", "tensor", "fsdp"), axis_types=(AxisType.Auto,) * 3)


def batch_devices(mesh: Mesh) -> int:
    """How many devices the rows of a batch are spread over."""
    return int(np.prod([mesh.shape[a] for a in BATCH]))


def check_tensor(mesh: Mesh, num_kv_heads: int) -> None:
    """Raises `UserError` where there are more devices along "tensor" than kv heads."""
    if mesh.shape["tensor"] > num_kv_heads:
        raise UserError(
            f"config.mesh.tensor is {mesh.shape['tensor']}: the model has {num_kv_heads} kv heads, "
            "and tensor parallelism divides these among devices; use mesh.fsdp for the remaining "
            "devices"
        )


def check_rows(mesh: Mesh, **counts: int) -> None:
    """Raises `UserError` that names a config field whose rows cannot be spread evenly.

    counts   rows, by the field's path with "__" for the dots
    """
    devices = batch_devices(mesh)
    for name, count in counts.items():
        if count % devices:
            raise UserError(
                f"config.{name.replace('__', '.')} is {count}: it must be a multiple of the "
                f"{devices} devices that share the rows (mesh.data * mesh.fsdp)"
            )


def spec_for(
    shape: tuple[int, ...],
    axes: tuple[str, ...],
    mesh: Mesh,
    rules: Mapping[str, str | None] = RULES,
) -> P:
    """The partition of a parameter by the rules; what does not divide is replicated.

    shape, axes   of the parameter: the size and the logical axis of each dimension
    """
    fits = lambda name, size: name and size % mesh.shape[name] == 0
    names = [rules[axis] for axis in axes]
    return P(*(name if fits(name, size) else None for name, size in zip(names, shape)))


def param_shardings(specs: Any, mesh: Mesh, rules: Mapping[str, str | None] = RULES) -> Any:
    """A tree of `NamedSharding`s like the tree of specs, whose leaves have `shape` and `axes`."""
    place = lambda spec: NamedSharding(mesh, spec_for(spec.shape, spec.axes, mesh, rules))
    return jax.tree.map(place, specs, is_leaf=lambda spec: hasattr(spec, "axes"))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, P())


def by_rows(mesh: Mesh) -> NamedSharding:
    """The leading axis over all data-parallel devices."""
    return NamedSharding(mesh, P(BATCH))


def place(tree: Any, sharding: NamedSharding) -> Any:
    """Host arrays, equal on every process, as global device arrays.

    Each process copies only its own devices' part.
    """
    put = lambda a: jax.make_array_from_callback(a.shape, sharding, lambda index: a[index])
    return jax.tree.map(put, tree)


def bytes_each(tree: Any) -> int:
    """Bytes on one device of arrays with shardings, which may be only described."""
    size = lambda x: math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize
    return sum(map(size, jax.tree.leaves(tree)))


def dividing(axis: str, size: int) -> str | None:
    """`axis`, if there is a mesh whose axis divides `size`, else None. Inside jit."""
    mesh = jax.sharding.get_abstract_mesh()
    return axis if not mesh.empty and size % mesh.shape[axis] == 0 else None


def constrain(x: jax.Array, *axes: str | tuple[str, ...] | None) -> jax.Array:
    """Pins an activation to mesh axes, one a dimension; without a mesh it does nothing.

    Inside jit under `jax.set_mesh`.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, P(*axes))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def gathered(x: jax.Array, whole: Axes, parts: Axes) -> jax.Array:
    """`constrain(x, *whole)` whose gradient stays in `parts`.

    The gradient of a plain constraint is put together on every device.
    """
    return constrain(x, *whole)


gathered.defvjp(
    lambda x, whole, parts: (gathered(x, whole, parts), None),
    lambda whole, parts, _, gradient: (constrain(gradient, *parts),),
)
