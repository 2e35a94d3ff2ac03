"""Questions -> judged answers -> tables."""
