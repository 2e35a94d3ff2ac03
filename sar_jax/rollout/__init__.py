"""Questions -> answers, on devices."""
