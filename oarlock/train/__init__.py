"""What happens around a training step: gradient clipping, static training programs."""
