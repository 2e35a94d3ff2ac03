"""Installs sar_jax; pyproject.toml says what it is and needs."""

from setuptools import setup

setup()
