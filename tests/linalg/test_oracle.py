import numpy as np
import pytest
import scipy.linalg
from spectral_oracle import EXP, LOG, error, nearly_tied, spread, tied, upstream_like


@pytest.mark.parametrize("make", [spread, tied, nearly_tied])
@pytest.mark.parametrize(
    ("oracle", "function"), [(LOG, scipy.linalg.logm), (EXP, scipy.linalg.expm)]
)
def test_the_oracle_agrees_with_scipys_block_matrices(make, oracle, function):
    # f([[X, G], [0, X]]) holds f's derivative at X in the direction G in its upper right corner;
    # for symmetric X and G that is also the gradient. It knows nothing of eigenvalues.
    x = make(1e2, size=6, batch=2).astype("float64")
    g = upstream_like(x)
    g = (g + np.swapaxes(g, -2, -1)) / 2
    value, gradient = oracle.value_and_gradient(x, g)
    for i in range(len(x)):
        block = function(np.block([[x[i], g[i]], [np.zeros_like(x[i]), x[i]]]))
        assert error(value[i], block[:6, :6]) < 1e-9
        assert error(gradient[i], block[:6, 6:]) < 1e-9
