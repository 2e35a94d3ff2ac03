"""What people see of a run: on a terminal, in files, in trackers."""
