"""What is behind the commands besides `train`."""
