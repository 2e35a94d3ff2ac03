"""Final answers: what a text states, and whether it equals the truth."""
