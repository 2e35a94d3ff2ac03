"""What a config may say, where it is read from, and what follows from it."""
