"""Scaled dot-product attention: portable, and as fused kernels."""
