"""GSM-Symbolic p1: GSM8K questions rewritten from templates, with one clause more.

5,000 to test generalisation.
"""

from sar_jax.text.tasks import gsm8k
from sar_jax.text.tasks.published import Published

TASK = Published(
    "gsm_symbolic",
    "apple/GSM-Symbolic",
    ("question", "answer"),
    gsm8k.example,
    plain=gsm8k.example,
    config="p1",
    splits={"test": "test"},
    files={"test": ("p1/test*", "**/GSM_p1*", "test*")},
)
