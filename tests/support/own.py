"""Rewards of one's own, for runs of several processes."""


def letters(answers):
    return [len(answer.text) / 10 for answer in answers]


def apart(group):
    least = min(answer.length for answer in group)
    return [answer.length - least + abs(float(answer.values.mean())) for answer in group]


def fails(answers, question):
    """Where one process alone sees it."""
    if any(question in answer.question for answer in answers):
        raise ValueError("no such question")
    return [0.0] * len(answers)
