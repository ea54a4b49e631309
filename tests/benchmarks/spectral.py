"""ReEig and LogEig, forward and backward, on each backend: a table of times and errors.

Contestants: kerasfer's fused layer, spd_learn's two modules on PyTorch, and the eigendecomposition
of the same matrices alone, in float64, on the same backend. Times are those of the fastest turn.
Errors are those of the gradient against float64, the worst matrix of the batch.

python tests/benchmarks/spectral.py [--threads 1] [--turns 15] [--backends tensorflow,jax,torch]
"""

import os
import sys
from pathlib import Path

import numpy as np
from race import parse, print_header, race

EPSILON = 1e-4
SHAPES = ((128, 24), (128, 49), (32, 128), (8, 256))  # (batch, n)


def matrices(batch, size):
    """Returns covariances of random features and a gradient to propagate, `(batch, n, n)`."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((batch, size, 512))
    covariances = features @ features.swapaxes(1, 2) / 511
    covariances += 1e-4 * np.trace(covariances, axis1=1, axis2=2)[:, None, None] * np.eye(size)
    upstream = rng.standard_normal((batch, size, size))
    return covariances.astype("float32"), upstream.astype("float32")


def gradient_error(gradient, batch, size):
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from spectral_oracle import error, rectified_log_oracle

    return error(
        gradient, rectified_log_oracle(EPSILON).value_and_gradient(*matrices(batch, size))[1]
    )


def ours(backend, batch, size):
    os.environ["KERAS_BACKEND"] = backend
    import keras

    from kerasfer.layers import LogEig

    layer = LogEig(epsilon=EPSILON)
    gradient = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[backend]
    step = gradient(layer, *matrices(batch, size))
    error = gradient_error(keras.ops.convert_to_numpy(step()), batch, size)
    return step, {"error": error}


def eigendecomposition(backend, batch, size):
    x = matrices(batch, size)[0].astype("float64")
    if backend == "tensorflow":
        import tensorflow as tf

        compute = tf.function(tf.linalg.eigh, autograph=False)
        x = tf.constant(x)
        return lambda: compute(x)[0].numpy(), {}
    if backend == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
        x, compute = jax.device_put(x), jax.jit(jax.numpy.linalg.eigh)
        return lambda: jax.block_until_ready(compute(x)), {}
    import torch

    x = torch.tensor(x, device="cuda" if torch.cuda.is_available() else "cpu")
    return lambda: torch.linalg.eigh(x)[0].cpu(), {}


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
    os.environ["KERAS_BACKEND"] = "torch"  # The oracle of the error imports Keras.
    import torch
    from spd_learn.modules import LogEig, ReEig

    layer = torch.nn.Sequential(ReEig(threshold=EPSILON), LogEig(upper=False, flatten=False))
    if torch.cuda.is_available():
        layer.cuda()
    step = _torch(layer, *matrices(batch, size))
    return step, {"error": gradient_error(step().numpy(), batch, size)}


if __name__ == "__main__":
    options = parse(__doc__, threads=1, backends="tensorflow,jax,torch")
    print_header(options.threads)
    print(
        "| backend | batch × n | ours | eigh | ours / eigh | spd_learn | spd_learn / ours | error |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for backend in options.backends.split(","):
        for batch, size in SHAPES:
            shape = {"batch": batch, "size": size}
            results = race(
                {
                    "ours": (ours, {"backend": backend, **shape}),
                    "eigh": (eigendecomposition, {"backend": backend, **shape}),
                    "spd_learn": (spd_learn, shape),
                },
                threads=options.threads,
                turns=options.turns,
            )
            # With one thread, processor times are right on a busy machine too.
            times = {
                name: 1e3 * float(np.min(r.processor if options.threads == 1 else r.seconds))
                for name, r in results.items()
            }
            errors = [results[name].facts["error"] for name in ("ours", "spd_learn")]
            print(
                f"| {backend} | {batch} × {size} | {times['ours']:.1f} ms | {times['eigh']:.1f} ms "
                f"| {times['ours'] / times['eigh']:.2f} | {times['spd_learn']:.1f} ms "
                f"| {times['spd_learn'] / times['ours']:.2f} | {errors[0]:.0e} / {errors[1]:.0e} |",
                flush=True,
            )
