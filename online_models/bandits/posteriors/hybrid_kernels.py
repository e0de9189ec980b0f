"""Kernels of hybrid LinUCB: rows of the arms, and the array of the shared model."""

from typing import NamedTuple

import numpy as np

from online_models.bandits.posteriors.linear_arms import RIDGE, solve_arm
from online_models.bandits.posteriors.packed_matrix import add_outer, invert, matvec, strict_dot
from stream.jit import kernel


class HybridModel(NamedTuple):
    """All parameters, with the widths d of an arm's context x and k of the shared context z."""

    posterior: np.ndarray  # (rows, p) float64, prior mean, θ, A⁻¹, A⁻¹B
    sums: np.ndarray  # (rows, s) float64, b, A without its ridge, B, Σzr, Σzzᵀ
    monitor: np.ndarray  # (rows, 5) float64, as in `LinearArms`
    shared: np.ndarray  # float64: β, A0⁻¹, b0, A0 without its ridge
    n_rows: int
    arm_width: int
    shared_width: int
    shared_ridge: float


class ContextProducts(NamedTuple):
    """Products of one context with one arm, which prediction leaves for the update that follows."""

    v: np.ndarray  # (d,) A⁻¹x
    u: np.ndarray  # (k,) z - BᵀA⁻¹x
    u0: np.ndarray  # (k,) A0⁻¹u


@kernel
def shared_offsets(k: int) -> tuple[int, int, int]:
    """Offsets of A0⁻¹, b0 and A0 in the shared array, which begins with β."""
    size = k * (k + 1) // 2
    return k, k + size, 2 * k + size


@kernel
def solve_shared(shared: np.ndarray, k: int, ridge: float) -> None:
    """Recompute A0⁻¹ and β from A0 and b0."""
    inverse, b, a = shared_offsets(k)
    invert(shared[a:], ridge, shared[inverse:b])
    matvec(shared[inverse:b], shared[b:a], shared[:k])


@kernel
def solve_cross(posterior: np.ndarray, sums: np.ndarray, d: int, k: int) -> None:
    """Recompute A⁻¹B of one arm, (d, k) row by row, from its A⁻¹ and B."""
    first = d + d * (d + 1) // 2
    cross, b = posterior[1 + first :].reshape(d, k), sums[first : first + d * k].reshape(d, k)
    column, product = np.empty(d), np.empty(d)
    for j in range(k):
        column[:] = b[:, j]
        matvec(posterior[1 + d : 1 + first], column, product)
        cross[:, j] = product


@kernel
def solve_all(model: HybridModel) -> None:
    """Recompute everything from the sums: A0 = I · ridge + Σ (Z - BᵀA⁻¹B), b0 = Σ (c - BᵀA⁻¹b)."""
    posterior, sums, monitor, shared, n_rows, d, k, ridge = model
    _, b0, a0 = shared_offsets(k)
    first = d + d * (d + 1) // 2
    shared[:] = 0.0
    for row in range(n_rows):
        if monitor[row, RIDGE] == 0.0:
            continue
        solve_arm(posterior[row], sums[row], monitor[row], d)
        solve_cross(posterior[row], sums[row], d, k)
        cross, b = posterior[row, 1 + first :].reshape(d, k), sums[row, first : first + d * k].reshape(d, k)
        c, z, p = sums[row, first + d * k : first + d * k + k], sums[row, first + d * k + k :], 0
        for i in range(k):
            shared[b0 + i] += c[i]
            for m in range(d):
                shared[b0 + i] -= b[m, i] * posterior[row, 1 + m]
            for j in range(i + 1):
                total = z[p + j]
                for m in range(d):
                    total -= b[m, i] * cross[m, j]
                shared[a0 + p + j] += total
            p += i + 1
    solve_shared(shared, k, ridge)


@kernel
def add_row(
    posterior: np.ndarray,
    sums: np.ndarray,
    shared: np.ndarray,
    x: np.ndarray,
    reward: float,
    weight: float,
    d: int,
    products: ContextProducts,
) -> None:
    """Add one row to an arm and to the shared model; both inverses change by rank 1."""
    k, w = x.size - d, weight
    v, u, u0 = products
    inverse, b0, a0 = shared_offsets(k)
    first = d + d * (d + 1) // 2
    x_arm, z = x[:d], x[d:]
    gain = w / (1.0 + w * strict_dot(v, x_arm))
    residual = reward - strict_dot(posterior[1 : 1 + d], x_arm)
    shared_gain = gain / (1.0 + gain * strict_dot(u, u0))
    shared_residual = residual - strict_dot(u, shared[:k])
    cross, b = posterior[1 + first :].reshape(d, k), sums[first : first + d * k].reshape(d, k)
    for i in range(d):
        sums[i] += w * x_arm[i] * reward
        posterior[1 + i] += gain * residual * v[i]
        for j in range(k):
            b[i, j] += w * x_arm[i] * z[j]
            cross[i, j] += gain * v[i] * u[j]
    for j in range(k):
        sums[first + d * k + j] += w * z[j] * reward
        shared[b0 + j] += gain * residual * u[j]
        shared[j] += shared_gain * shared_residual * u0[j]
    add_outer(sums[d:], w, x_arm)
    add_outer(posterior[1 + d :], -gain, v)
    add_outer(sums[first + d * k + k :], w, z)
    add_outer(shared[a0:], gain, u)
    add_outer(shared[inverse:], -shared_gain, u0)


@kernel
def predict_row(
    posterior: np.ndarray, shared: np.ndarray, x: np.ndarray, d: int, products: ContextProducts
) -> tuple[float, float]:
    """Mean above the prior mean, and variance in units of the noise; fills `products`.

    Algorithm 2 of the paper, s with its four terms combined: xᵀA⁻¹x + uᵀA0⁻¹u.
    """
    k = x.size - d
    v, u, u0 = products
    inverse, b0, _ = shared_offsets(k)
    first = d + d * (d + 1) // 2
    cross = posterior[1 + first :].reshape(d, k)
    matvec(posterior[1 + d : 1 + first], x[:d], v)
    u[:] = x[d:]
    for i in range(d):
        for j in range(k):
            u[j] -= cross[i, j] * x[i]
    matvec(shared[inverse:b0], u, u0)
    mean = strict_dot(posterior[1 : 1 + d], x[:d]) + strict_dot(u, shared[:k])
    return mean, max(strict_dot(v, x[:d]) + strict_dot(u, u0), 0.0)
