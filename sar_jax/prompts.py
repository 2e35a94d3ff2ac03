"""Text -> token ids: the chat template, and the context for the standalone perplexity. No JAX.

    conditional   [system] [question + instruction] [assistant header]  a      ppl(a|q)
    standalone    [system] [                      ] [assistant header]  a      ppl(a),  "empty_question"
                  [one BOS or EOS token]                                a      ppl(a),  "bos"

The empty-question context is the same template with nothing in the user's turn (as in the trainer that the paper's
authors published; the formula alone reads like "bos"). Both end right before a_1,
so the answer's token ids are reused as they are.
A tokenizer without a chat template gets plain "System: / User: / Assistant:" text.
"""

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sar_jax.config import Prompt
from sar_jax.errors import UserError


def load_tokenizer(folder: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a Hugging Face folder. Raises `UserError` where there is none."""
    try:
        return AutoTokenizer.from_pretrained(folder)
    except Exception as error:   # transformers raises many kinds here
        raise UserError(f"{folder}: no tokenizer can be loaded from here ({str(error).splitlines()[0]})") from None


def stop_ids(tokenizer: PreTrainedTokenizerBase, named: list[int]) -> tuple[int, ...]:
    """Every id that ends an answer: those that the model's files name, and the tokenizer's EOS, which must exist."""
    if tokenizer.eos_token_id is None:
        raise UserError("the tokenizer has no EOS token: nothing would end an answer")
    return tuple(sorted({*named, tokenizer.eos_token_id}))


class Prompter:
    """Renders questions for one tokenizer. `standalone` is the context that replaces the question in ppl(a)."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: Prompt):
        self.tokenizer, self.config = tokenizer, config
        if config.standalone_context == "bos":
            first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
            if first is None:
                raise UserError("config.prompt.standalone_context is 'bos', but the tokenizer has no BOS or EOS token")
            self.standalone: list[int] = [first]
        else:
            self.standalone = self._render("")

    def prompt(self, question: str) -> list[int]:
        """Token ids of the question's prompt, up to where the answer begins."""
        return self._render(f"{question} {self.config.instruction}".rstrip())

    def _render(self, user: str) -> list[int]:
        if self.tokenizer.chat_template is None:
            system = f"System: {self.config.system}\n" if self.config.system else ""
            return self.tokenizer.encode(f"{system}User: {user}\nAssistant:")
        messages = [{"role": "system", "content": self.config.system}] if self.config.system else []
        text = self.tokenizer.apply_chat_template([*messages, {"role": "user", "content": user}], tokenize=False,
                                                  add_generation_prompt=True)
        return self.tokenizer.encode(text, add_special_tokens=False)   # the template writes its own special tokens

    def answer(self, text: str, stop: int) -> list[int]:
        """Token ids of a worked answer for supervised training, ended by the stop token."""
        return [*self.tokenizer.encode(text, add_special_tokens=False), stop]
