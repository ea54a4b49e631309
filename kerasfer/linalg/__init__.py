"""Numerics for symmetric positive definite (SPD) matrices with `keras.ops`, on every backend.

A function of a symmetric matrix acts on its eigenvalues: f(X) = U f(Σ) Uᵀ. Each function has two
forms, which `method` selects: `"eigh"` uses one eigendecomposition with exact first and second
derivatives, and `"matmul"` uses only matrix products, for phones, ONNX and XLA. Both are accurate
when compiled by XLA, except for `"eigh"` on TensorFlow, whose XLA solver is slow and only accurate
to 1e-3.

float16 and bfloat16 inputs are computed in float32. float64 remains float64, except on torch, where
Keras' operations convert it to float32.
"""

# Keras is imported first, since the layers, which are imported right after it, need complete
# modules of this package.
import keras  # noqa: F401, I001

from kerasfer.linalg.matrices import (
    as_float,
    check_square,
    covariance,
    l2_normalize,
    shrink,
    signed_sqrt,
    split_length,
    unvech,
    vech,
    vech_side,
)
from kerasfer.linalg.means import METRICS, check_metric, congruence, geodesic, powm, spd_mean
from kerasfer.linalg.spectral import (
    METHODS,
    PENALTY_FORMS,
    check_method,
    check_penalty_form,
    expm,
    log_eigenvalue_penalty,
    logm,
    rectified_logm,
    rectify,
)
from kerasfer.linalg.stiefel import retract

__all__ = [
    "METHODS",
    "METRICS",
    "PENALTY_FORMS",
    "as_float",
    "check_method",
    "check_metric",
    "check_penalty_form",
    "check_square",
    "congruence",
    "covariance",
    "expm",
    "geodesic",
    "l2_normalize",
    "log_eigenvalue_penalty",
    "logm",
    "powm",
    "rectified_logm",
    "rectify",
    "retract",
    "shrink",
    "signed_sqrt",
    "spd_mean",
    "split_length",
    "unvech",
    "vech",
    "vech_side",
]
