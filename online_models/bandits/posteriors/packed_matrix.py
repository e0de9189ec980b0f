"""Symmetric matrices as packed lower triangles: half the memory, and exactly symmetric."""

import numpy as np

from stream.jit import fastmath_kernel, kernel


def packed_size(d: int) -> int:
    """Entries of a packed (d, d) matrix.

    >>> packed_size(3)
    6
    """
    return d * (d + 1) // 2


@kernel
def pack_pairs(x: np.ndarray, pairs: np.ndarray) -> None:
    """Write products of entries so that xᵀMx = dot(M, pairs); off the diagonal they count twice."""
    p = 0
    for i in range(x.size):
        for j in range(i):
            pairs[p + j] = 2.0 * x[i] * x[j]
        pairs[p + i] = x[i] * x[i]
        p += i + 1


@fastmath_kernel
def dot(left: np.ndarray, right: np.ndarray) -> float:
    total = 0.0
    for i in range(left.size):
        total += left[i] * right[i]
    return total


@kernel
def strict_dot(left: np.ndarray, right: np.ndarray) -> float:
    """Sum as written, unlike `dot`: learned state must have the same bits on every processor."""
    total = 0.0
    for i in range(left.size):
        total += left[i] * right[i]
    return total


@fastmath_kernel
def quadratic(m: np.ndarray, u: np.ndarray) -> float:
    """uᵀMu of a full (d, d) matrix, faster than packed for small d; four rows share u."""
    total, n_unrolled = 0.0, u.size - u.size % 4
    for i in range(0, n_unrolled, 4):
        m0, m1, m2, m3 = m[i], m[i + 1], m[i + 2], m[i + 3]
        r0, r1, r2, r3 = 0.0, 0.0, 0.0, 0.0
        for j in range(u.size):
            r0 += m0[j] * u[j]
            r1 += m1[j] * u[j]
            r2 += m2[j] * u[j]
            r3 += m3[j] * u[j]
        total += r0 * u[i] + r1 * u[i + 1] + r2 * u[i + 2] + r3 * u[i + 3]
    for i in range(n_unrolled, u.size):
        total += dot(m[i], u) * u[i]
    return total


@kernel
def unpack(m: np.ndarray, out: np.ndarray) -> None:
    """Write a packed matrix as a full (d, d) one."""
    p = 0
    for i in range(out.shape[0]):
        for j in range(i + 1):
            out[i, j] = out[j, i] = m[p + j]
        p += i + 1


@kernel
def subtract_product(m: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """Compute out -= Mᵀx for M row by row in m; four rows at a time, to write `out` less often."""
    k, n_unrolled = out.size, x.size - x.size % 4
    for i in range(0, n_unrolled, 4):
        rows = m[i * k : (i + 4) * k]
        m0, m1, m2, m3 = rows[:k], rows[k : 2 * k], rows[2 * k : 3 * k], rows[3 * k :]
        for j in range(k):
            out[j] -= m0[j] * x[i] + m1[j] * x[i + 1] + m2[j] * x[i + 2] + m3[j] * x[i + 3]
    for i in range(n_unrolled, x.size):
        row = m[i * k : (i + 1) * k]
        for j in range(k):
            out[j] -= row[j] * x[i]


@kernel
def matvec(m: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """Out = M x."""
    p = 0
    for i in range(x.size):
        total = m[p + i] * x[i]
        for j in range(i):
            total += m[p + j] * x[j]
            out[j] += m[p + j] * x[i]
        out[i] = total
        p += i + 1


@kernel
def add_outer(m: np.ndarray, factor: float, v: np.ndarray) -> None:
    """M += factor · v vᵀ; Sherman–Morrison for v = M x and factor -w / (1 + w xᵀv)."""
    p = 0
    for i in range(v.size):
        scaled = factor * v[i]
        for j in range(i + 1):
            m[p + j] += scaled * v[j]
        p += i + 1


@kernel
def invert(m: np.ndarray, ridge: float, out: np.ndarray) -> None:
    """Invert out = (M + ridge · I)⁻¹ of semidefinite M, by Cholesky with a pivot floor."""
    d = 0
    while d * (d + 1) // 2 < m.size:
        d += 1
    pivot_floor = ridge
    for i in range(d):
        pivot_floor = max(pivot_floor, 1e-13 * m[i * (i + 1) // 2 + i])
    lower = np.zeros((d, d))
    for i in range(d):
        for j in range(i + 1):
            total = m[i * (i + 1) // 2 + j] + (ridge if i == j else 0.0)
            for k in range(j):
                total -= lower[i, k] * lower[j, k]
            # A Schur complement of M + ridge · I is at least ridge; rounding may leave less.
            lower[i, j] = np.sqrt(max(total, pivot_floor)) if i == j else total / lower[j, j]
    inverse_lower = np.zeros((d, d))  # L⁻¹
    for j in range(d):
        inverse_lower[j, j] = 1.0 / lower[j, j]
        for i in range(j + 1, d):
            total = 0.0
            for k in range(j, i):
                total -= lower[i, k] * inverse_lower[k, j]
            inverse_lower[i, j] = total / lower[i, i]
    for i in range(d):
        for j in range(i + 1):
            total = 0.0
            for k in range(i, d):
                total += inverse_lower[k, i] * inverse_lower[k, j]
            out[i * (i + 1) // 2 + j] = total
