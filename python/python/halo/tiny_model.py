"""A tiny Llama with random weights and a tokenizer of its own, for demonstrations and tests.

    python -m halo.tiny_model FOLDER

Nothing is downloaded; the same folder comes out every time. Its completions are noise, reproducibly.
"""

from __future__ import annotations

import argparse
import pathlib

LAYERS = 4
HIDDEN = 256
VOCABULARY = 512
TEXT = ("the quick brown fox jumps over the lazy dog. " * 50, "hello world from a tiny random llama model " * 50)


def make(folder: pathlib.Path) -> None:
    """Writes the model and its tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>", "<pad>"]
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXT, trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    wrapped.chat_template = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=688,
        num_hidden_layers=LAYERS,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        dtype="bfloat16",
    )
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    # A folder that is there is whole: written beside, then renamed.
    partial = folder.with_name(folder.name + ".partial")
    partial.mkdir(parents=True, exist_ok=True)
    wrapped.save_pretrained(partial)
    model.save_pretrained(partial)
    partial.rename(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="where the model goes; nothing is done if it is there")
    folder = parser.parse_args().folder
    if folder.exists():
        print(f"{folder} is there already")
        return
    make(folder)
    print(f"{folder}: {LAYERS} layers, hidden size {HIDDEN}, random weights")


if __name__ == "__main__":
    main()
