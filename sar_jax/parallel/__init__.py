"""Devices and processes: meshes and shardings, several hosts, the chips' limits."""
