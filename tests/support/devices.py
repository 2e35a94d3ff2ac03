"""Devices that this machine does not have, as JAX describes them."""

from unittest import mock

import jax
import numpy as np


def described(**attributes) -> jax.Device:
    """A device of which these attributes are known."""
    return mock.Mock(spec=jax.Device, **attributes)


def mesh_of(device: jax.Device) -> jax.sharding.Mesh:
    """A mesh of this one device."""
    return mock.Mock(spec=jax.sharding.Mesh, devices=np.array([device]))
