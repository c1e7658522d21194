"""DDIM inversion against a Gaussian prior, as a recursion in plain numbers."""

from __future__ import annotations

from known_prior import STD, coefficients


def predicted(model, z, t, mean):
    alpha, sigma = coefficients(model, t)
    return sigma * (z - alpha * mean) / (alpha**2 * STD**2 + sigma**2)


def climb(model, z, times, mean):
    """DDIM upwards as z' = (a'/a) z + (s' - s a'/a) eps from the clean image, a = 1 and s = 0 there."""
    a, s, at_time = 1.0, 0.0, 0
    for t in times:
        a_next, s_next = coefficients(model, t)
        z = a_next / a * z + (s_next - s * a_next / a) * predicted(model, z, at_time, mean)
        a, s, at_time = a_next, s_next, t
    return z
