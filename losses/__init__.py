"""The training objective: view synthesis, photometric error, auto-masking and smoothness."""

from system.lazy import on_demand

__getattr__, __all__ = on_demand(
    __name__, {"Objective": "objective", "compute_losses": "objective", "noise_like_identity": "objective"}
)
