"""The selective scan of state space models (S6; Gu & Dao, arXiv 2312.00752, section 3), one call for every machine.

    y = selective_scan(u, delta, A, B, C, D, z=z, delta_bias=bias)

computes, for each channel e with n states and starting from h = 0,

    step   = softplus(delta + delta_bias)
    h_t    = exp(step_t * A) * h_{t-1} + step_t * B_t * u_t
    y_t    = sum over n of C_t * h_t, plus D * u_t, times silu(z_t)

as the reference implementation of the paper does: Euler's rule for B, although the paper prints zero-order hold.
Several scans with parameters of their own (the two directions of a vision Mamba) go into one call as groups.
"""

from perception.scan.operator import Implementation, Recurrence, available, recurrence, selective_scan

__all__ = ["Implementation", "Recurrence", "available", "recurrence", "selective_scan"]
