"""Will a run fit a slice, and how long will it take?"""
