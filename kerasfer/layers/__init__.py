"""Layers for second-order statistics and SPD matrices, usable in any Keras 3 project."""

from kerasfer.layers.affine import AffineSampling
from kerasfer.layers.attention import SPDAttention
from kerasfer.layers.batch_normalization import FusedBatchNormalization
from kerasfer.layers.bilinear import BilinearPool
from kerasfer.layers.bimap import BiMap, Stiefel
from kerasfer.layers.class_probabilities import ClassProbabilities
from kerasfer.layers.covariance import Covariance, SPDProject
from kerasfer.layers.crops import RegionCrops
from kerasfer.layers.spd_batch_normalization import SPDBatchNormalization
from kerasfer.layers.spectral import ExpEig, LogEig, ReEig
from kerasfer.layers.vech import Unvech, Vech

__all__ = [
    "AffineSampling",
    "BiMap",
    "BilinearPool",
    "ClassProbabilities",
    "Covariance",
    "ExpEig",
    "FusedBatchNormalization",
    "LogEig",
    "ReEig",
    "RegionCrops",
    "SPDAttention",
    "SPDBatchNormalization",
    "SPDProject",
    "Stiefel",
    "Unvech",
    "Vech",
]
