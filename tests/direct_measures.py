"""The measures written down from their papers: all frames in memory, float64, one pair at a time, N × N where it is."""

from __future__ import annotations

import math

import numpy as np
import scipy.linalg
from scipy.spatial.distance import cdist, pdist
from scipy.stats import spearmanr


def centred(x):
    x = np.asarray(x, dtype=np.float64)
    return x - x.mean(0)


def basis(x):
    """Orthonormal columns that span those of x, as many as its numerical rank."""
    u, s, _ = np.linalg.svd(centred(x), full_matrices=False)
    return u[:, s > 1e-12 * s[0]]


def canonical(x, y):
    """Björck and Golub 1973: the cosines of the angles between the spaces of the columns."""
    return np.linalg.svd(basis(x).T @ basis(y), compute_uv=False)


def cca(x, y):
    return canonical(x, y).mean()


def cca_r2(x, y):
    return (canonical(x, y) ** 2).mean()


def reduced(x, threshold):
    u, s, _ = np.linalg.svd(centred(x), full_matrices=False)
    count = np.flatnonzero(np.cumsum(s**2) >= threshold * np.sum(s**2) * (1 - 1e-12))[0] + 1
    return u[:, :count] * s[:count]


def svcca(x, y, threshold=0.99):
    return canonical(reduced(x, threshold), reduced(y, threshold)).mean()


def pwcca(x, y):
    """Morcos et al. 2018: rho weighted by the sum over units of |<canonical variate, unit>|, both over the frames."""
    x, qx, qy = centred(x), basis(x), basis(y)
    u, rho, _ = np.linalg.svd(qx.T @ qy, full_matrices=False)
    weights = np.abs((qx @ u).T @ x).sum(1)
    return np.sum(weights * rho) / np.sum(weights)


def _hsic(k, m):
    """tr(KHLH) / (n - 1)^2 with the centring matrix, of which only the trace is formed."""
    h = np.eye(len(k)) - 1 / len(k)
    return np.sum((k @ h) * (m @ h).T) / (len(k) - 1) ** 2


def _aligned(k, m, hsic):
    return hsic(k, m) / math.sqrt(hsic(k, k) * hsic(m, m))


def cka(x, y):
    k, m = (np.asarray(a, np.float64) @ np.asarray(a, np.float64).T for a in (x, y))
    return _aligned(k, m, _hsic)


def _unbiased(k, m):
    """Song et al. 2012, equation 5."""
    n, k, m = len(k), k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    one = np.ones(n)
    middle = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return (np.trace(k @ m) + middle - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))


def cka_debiased(x, y):
    k, m = (centred(a) @ centred(a).T for a in (x, y))
    return _aligned(k, m, _unbiased)


def cka_rbf(x, y):
    def gram(a):
        distances = cdist(np.asarray(a, np.float64), np.asarray(a, np.float64))
        median = np.median(distances[np.triu_indices(len(a), 1)])
        return np.exp(-(distances**2) / (2 * median**2))

    return _aligned(gram(x), gram(y), _hsic)


def procrustes(x, y):
    """Through the best rotation itself (scipy): the cosine between x R and y."""
    x, y = centred(x), centred(y)
    width = max(x.shape[1], y.shape[1])
    x, y = (np.pad(a, ((0, 0), (0, width - a.shape[1]))) for a in (x, y))
    x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)
    rotation, _ = scipy.linalg.orthogonal_procrustes(x, y)
    return np.sum((x @ rotation) * y)


def angular(x, y):
    return 1 - 2 / np.pi * np.arccos(min(procrustes(x, y), 1))


def r2(x, y):
    """Ordinary least squares of y on x."""
    x, y = centred(x), centred(y)
    coefficients = np.linalg.lstsq(x, y, rcond=None)[0]
    return 1 - np.sum((y - x @ coefficients) ** 2) / np.sum(y**2)


def knn(x, y, k=10):
    def neighbours(a):
        distances = cdist(np.asarray(a, np.float64), np.asarray(a, np.float64))
        np.fill_diagonal(distances, np.inf)
        return np.argsort(distances, axis=1, kind="stable")[:, :k]

    return np.mean([len(set(p) & set(q)) / k for p, q in zip(neighbours(x), neighbours(y), strict=True)])


def rsa(x, y):
    return spearmanr(*(pdist(np.asarray(a, np.float64), "correlation") for a in (x, y))).statistic


DIRECT = {
    "cca": cca,
    "cca_r2": cca_r2,
    "svcca": svcca,
    "pwcca": pwcca,
    "cka": cka,
    "cka_debiased": cka_debiased,
    "cka_rbf": cka_rbf,
    "procrustes": procrustes,
    "angular": angular,
    "r2": r2,
    "knn": knn,
    "rsa": rsa,
}


def layers(seed=0, frames=400, width=12, other=7, noise=0.7):
    """Two networks' layers that share half of what they say, with spectra that fall off like those of real layers."""
    rng = np.random.default_rng(seed)
    source = rng.normal(size=(frames, 8)) * np.geomspace(3, 0.2, 8)
    return (
        source @ rng.normal(size=(8, width)) + noise * rng.normal(size=(frames, width)) + rng.normal(size=width),
        source[:, ::-1] @ rng.normal(size=(8, other)) + noise * rng.normal(size=(frames, other)) - 2,
    )
