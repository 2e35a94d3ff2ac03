"""A reward that likes answers without phrases that say nothing."""

FILLER = ("let me", "now i", "i am sure", "i can do", "look at that")


def no_filler(answers):
    """1 for an answer without filler, less for each phrase of it."""
    return [1 / (1 + sum(answer.text.lower().count(p) for p in FILLER)) for answer in answers]


def shortest_right(group):
    """1 for the shortest right answer to a question."""
    right = [answer.length for answer in group if answer.correct]
    return [float(answer.correct and answer.length == min(right)) for answer in group]
