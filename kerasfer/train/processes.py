"""Lets several processes train one model together, on JAX.

The processes are started elsewhere, such as in `kerasfer.scale.training`. Each of them calls `join`
and then `kerasfer.train.train`, all with the same arguments, and they compute the same steps at the
same time. The first process alone writes the run folder. It also makes the decisions that depend on
the content of the folder, since the others may see the folder at another moment.
"""

import keras
import numpy as np


def join(address, number, index):
    """Joins the processes of a training. Nothing may be computed before.

    Args:
        address: `"host:port"`, a free port of the machine of the first process.
        number: The number of processes.
        index: The number of this process, from 0.
    """
    # Without a seed, each process would draw one of its own.
    keras.utils.set_random_seed(0)
    keras.distribution.initialize(address, number, index)
    # The connections for collective operations are opened by the first one of them, within 30
    # seconds. Later operations wait for a slow process without a time limit.
    from_first(0)


def count_processes():
    """Returns the number of processes that train together, 1 for an ordinary training."""
    return _jax().process_count() if _jax() else 1


def process_index():
    """Returns the number of this process among them, from 0."""
    return _jax().process_index() if _jax() else 0


def is_first():
    """Returns whether this process writes the run folder."""
    return process_index() == 0


def from_first(value):
    """Returns the value of the first process in all processes. It waits until all of them call it.

    Args:
        value: int. The values of the other processes are ignored.
    """
    if count_processes() == 1:
        return value
    from jax.experimental.multihost_utils import broadcast_one_to_all

    return int(broadcast_one_to_all(np.int32(value)))


def _jax():
    """Returns the module `jax`, or None with other backends.

    `keras.distribution` does not report the processes, except as part of a distribution.
    """
    if keras.backend.backend() != "jax":
        return None
    import jax

    return jax
