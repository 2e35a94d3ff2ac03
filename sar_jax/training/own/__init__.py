"""Functions of one's own that training uses (docs/plugins.md)."""
