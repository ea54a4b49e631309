"""ReEig and LogEig, forward and backward: ours, fused, beside spd_learn's two modules on PyTorch.

python tests/benchmarks/spectral.py [--threads 2] [--turns 15]
"""

import numpy as np
from race import parse, print_header, print_pair, race

EPSILON = 1e-4
TARGETS = {49: 3.5, 24: 2.0}  # on TensorFlow, on a CPU


def matrices(batch, size):
    """Returns covariances of random features and a gradient to propagate, `(batch, n, n)`."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((batch, size, 512))
    covariances = features @ features.swapaxes(1, 2) / 511
    covariances += 1e-4 * np.trace(covariances, axis1=1, axis2=2)[:, None, None] * np.eye(size)
    upstream = rng.standard_normal((batch, size, size))
    return covariances.astype("float32"), upstream.astype("float32")


def ours(batch, size):
    import keras

    from kerasfer.layers import LogEig

    layer = LogEig(epsilon=EPSILON)
    arrays = matrices(batch, size)
    gradient = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[keras.backend.backend()]
    step = gradient(layer, *arrays)
    return step, {"gradient": keras.ops.convert_to_numpy(step())}


def _tensorflow(layer, x, upstream):
    import tensorflow as tf

    x, upstream = tf.constant(x), tf.constant(upstream)

    @tf.function(autograph=False)
    def compute(x, upstream):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return tape.gradient(y, x, output_gradients=upstream)

    return lambda: compute(x, upstream).numpy()


def _jax(layer, x, upstream):
    import jax

    x, upstream = jax.device_put(x), jax.device_put(upstream)
    compute = jax.jit(lambda x, upstream: jax.vjp(layer, x)[1](upstream)[0])
    return lambda: compute(x, upstream).block_until_ready()


def _torch(layer, x, upstream):
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    x = torch.tensor(x, device=device, requires_grad=True)
    upstream = torch.tensor(upstream, device=device)

    def step():
        x.grad = None
        layer(x).backward(upstream)
        return x.grad.cpu()

    return step


def spd_learn(batch, size):
    import torch
    from spd_learn.modules import LogEig, ReEig

    layer = torch.nn.Sequential(ReEig(threshold=EPSILON), LogEig(upper=False, flatten=False))
    if torch.cuda.is_available():
        layer.cuda()
    step = _torch(layer, *matrices(batch, size))
    return step, {"gradient": step().numpy()}


if __name__ == "__main__":
    options = parse(__doc__)
    print_header(options.threads)
    for size, target in TARGETS.items():
        shape = {"batch": 128, "size": size}
        results = race(
            {"ours": (ours, shape), "spd_learn": (spd_learn, shape)},
            threads=options.threads,
            turns=options.turns,
        )
        mine, theirs = (results[name].facts["gradient"] for name in ("ours", "spd_learn"))
        difference = np.linalg.norm(mine - theirs) / np.linalg.norm(mine)
        print_pair(f"128 × {size} × {size}", results["ours"], results["spd_learn"])
        print(f"{'':<30} gradients differ by {difference:.0e}; target on TensorFlow: {target}")
