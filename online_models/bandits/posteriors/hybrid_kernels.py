"""The model that all arms of hybrid LinUCB share, beside their own: kernels over the rows of both."""

import numpy as np

from online_models.bandits.posteriors.linear_arms import RIDGE, solve_arm
from online_models.bandits.posteriors.packed_matrix import add_outer, invert, matvec, strict_dot
from stream.jit import kernel


@kernel
def shared_offsets(k: int) -> tuple[int, int, int]:
    """Where, behind β, the inverse, b0 and A0 of the shared model begin; all in one array."""
    size = k * (k + 1) // 2
    return k, k + size, 2 * k + size


@kernel
def solve_shared(shared: np.ndarray, k: int, ridge: float) -> None:
    inverse, b, a = shared_offsets(k)
    invert(shared[a:], ridge, shared[inverse:b])
    matvec(shared[inverse:b], shared[b:a], shared[:k])


@kernel
def solve_cross(posterior: np.ndarray, sums: np.ndarray, d: int, k: int) -> None:
    """A⁻¹B of one arm, (d, k) row by row, from its A⁻¹ and B."""
    first = d + d * (d + 1) // 2
    cross, b = posterior[1 + first :].reshape(d, k), sums[first : first + d * k].reshape(d, k)
    column, product = np.empty(d), np.empty(d)
    for j in range(k):
        column[:] = b[:, j]
        matvec(posterior[1 + d : 1 + first], column, product)
        cross[:, j] = product


@kernel
def solve_all(
    posterior: np.ndarray,
    sums: np.ndarray,
    monitor: np.ndarray,
    shared: np.ndarray,
    n_rows: int,
    d: int,
    k: int,
    ridge: float,
) -> None:
    """Everything from the sums of the arms: A0 = I · ridge + Σ (Z - BᵀA⁻¹B), b0 = Σ (c - BᵀA⁻¹b)."""
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
    w: float,
    d: int,
    v: np.ndarray,
    u: np.ndarray,
    u0: np.ndarray,
) -> None:
    """One row into an arm and into the shared model, each inverse by a change of rank 1."""
    k = x.size - d
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
    posterior: np.ndarray, shared: np.ndarray, x: np.ndarray, d: int, v: np.ndarray, u: np.ndarray, u0: np.ndarray
) -> tuple[float, float]:
    """Mean of what is above the prior mean, and variance in units of the noise; v = A⁻¹x, u = z - BᵀA⁻¹x, u0 = A0⁻¹u.

    Line 12 of Algorithm 2 with its four terms drawn together: xᵀA⁻¹x + uᵀA0⁻¹u.
    """
    k = x.size - d
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
