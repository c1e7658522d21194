"""What score-distillation losses share: timesteps, weights, guidance rules, clipping, inversion, adapters."""
