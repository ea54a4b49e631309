import keras
from keras import layers

from kerasfer.layers import BiMap, LogEig, ReEig, SPDBatchNormalization, Vech


def spdnet(
    num_classes,
    input_size,
    units=(32, 16),
    epsilon=1e-4,
    batch_normalization=False,
    metric="affine_invariant",
    method="eigh",
):
    """Builds SPDNet, a classifier of SPD matrices such as covariances of EEG, radar or motion data.

    Each stage maps the matrices to smaller ones (`BiMap`), optionally normalizes them
    (`SPDBatchNormalization`) and raises small eigenvalues (`ReEig`). The last stage computes
    the logarithm instead, and a dense layer classifies its upper triangle (`Vech`).

    Args:
        num_classes: Number of classes.
        input_size: Size n of the SPD matrices.
        units: Output size of the `BiMap` of each stage, not larger than that of the previous stage.
        epsilon: Smallest eigenvalue after each stage.
        batch_normalization: Whether to normalize the matrices on the manifold in each stage.
        metric: Metric of the normalization, `"affine_invariant"` or `"log_euclidean"`.
        method: `"eigh"`, or `"matmul"` for targets without an eigendecomposition.

    Returns:
        A `keras.Model`: float32 `(batch, input_size, input_size)` → probabilities
        `(batch, num_classes)`.

    Raises:
        ValueError: If `units` is empty or grows.

    Example:
        >>> model = spdnet(num_classes=4, input_size=22, units=(12, 8))
        >>> model.output_shape
        (None, 4)

    Source: Huang and Van Gool, A Riemannian Network for SPD Matrix Learning, AAAI 2017.
    """
    if not units:
        raise ValueError(f"`units` must have at least one stage. Received: units={units}.")
    matrices = keras.Input((input_size, input_size), name="matrices")
    x = matrices
    for stage, size in enumerate(units, start=1):
        x = BiMap(size, name=f"bimap_{stage}")(x)
        if batch_normalization:
            x = ReEig(epsilon, method, name=f"definite_{stage}")(x)
            x = SPDBatchNormalization(metric, method=method, name=f"norm_{stage}")(x)
        if stage < len(units):
            x = ReEig(epsilon, method, name=f"re_eig_{stage}")(x)
    x = Vech(name="vech")(LogEig(epsilon, method=method, name="log_eig")(x))
    outputs = layers.Dense(num_classes, "softmax", dtype="float32", name="probabilities")(x)
    return keras.Model(matrices, outputs, name="spdnet")
