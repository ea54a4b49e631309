"""Every spectral function, compiled by XLA and eager, against float64."""

import numpy as np
import pytest
from spectral_oracle import (
    BACKEND,
    EXP,
    LOG,
    error,
    rank_deficient,
    rectified_log_oracle,
    rectify_oracle,
    spread,
    upstream_like,
    value_and_gradient,
)

from kerasfer import linalg

EPSILON = 2e-3
FUNCTIONS = {
    "logm": (linalg.logm, LOG),
    "rectify": (lambda x, method: linalg.rectify(x, EPSILON, method), rectify_oracle(EPSILON)),
    "rectified logm": (
        lambda x, method: linalg.logm(x, EPSILON, method),
        rectified_log_oracle(EPSILON),
    ),
    "rectified_logm": (
        lambda x, method: sum(linalg.rectified_logm(x, EPSILON, method)),
        None,
    ),
    "expm": (linalg.expm, EXP),
}


def matrices(name, size):
    """Conditions from 10 to 1e5, exact ties and, where they are allowed, singular matrices."""
    kinds = [spread(condition, size, batch=1) for condition in (1e1, 1e3, 1e5)]
    kinds.append(np.diag(np.where(np.arange(size) % 2, 0.5, 0.01))[None])
    if name == "expm":
        return LOG(np.concatenate(kinds)).astype("float32")
    if name != "logm":
        kinds += [np.zeros((1, size, size)), rank_deficient(max(2, size // 2), size, batch=1)]
    return np.concatenate(kinds).astype("float32")


def oracle(name, x, upstream):
    if name != "rectified_logm":
        return FUNCTIONS[name][1].value_and_gradient(x, upstream)
    parts = [
        FUNCTIONS[part][1].value_and_gradient(x, upstream) for part in ("rectify", "rectified logm")
    ]
    return tuple(map(sum, zip(*parts, strict=True)))


@pytest.mark.parametrize("compiled", [False, True] if BACKEND != "torch" else [False])
@pytest.mark.parametrize("size", [1, 24, 64])
@pytest.mark.parametrize("method", linalg.METHODS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients(name, method, size, compiled):
    x = matrices(name, size)
    upstream = upstream_like(x)
    # The matrix products lose some digits at a condition of 1e5 in float32.
    tolerances = (1e-5, 1e-5) if method == "eigh" else (3e-4, 4e-3)
    if method == "eigh" and compiled and BACKEND == "tensorflow":
        # XLA's own solver stops at 1e-6 of the largest eigenvalue, which costs the logarithm up to
        # 1e-2 at condition 1e5. The layers do not use it there.
        tolerances = (3e-2, 3e-2)
    results = value_and_gradient(
        lambda x: FUNCTIONS[name][0](x, method=method), x, upstream, compiled
    )
    for result, expected, tolerance in zip(
        results, oracle(name, x, upstream), tolerances, strict=True
    ):
        # A matrix of zeros is expected in some cases: the shift makes its error absolute.
        shift = np.eye(size)
        assert error(result + shift, expected + shift) < tolerance


@pytest.mark.parametrize("compiled", [False, True] if BACKEND != "torch" else [False])
def test_retraction(compiled):
    rng = np.random.default_rng(0)
    rows = np.linalg.qr(rng.standard_normal((49, 24)))[0].T
    scale = np.exp(rng.uniform(-2, 2, 24))  # The polar factor of a positive definite S times W.
    rotation = np.linalg.qr(rng.standard_normal((24, 24)))[0]
    w = ((rotation * scale) @ rotation.T @ rows).astype("float32")
    retracted, _ = value_and_gradient(linalg.retract, w, np.zeros_like(w), compiled)
    assert error(retracted, rows) < 1e-5
