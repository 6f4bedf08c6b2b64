"""The tokens that a model chooses greedily in float32, by transformers alone: what any number of ranks must come to.

    python greedy.py MODEL COUNT PROMPT...

Prints a list of COUNT token numbers for each prompt, as JSON.
"""

import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, count, *prompts = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
completions = []
for prompt in prompts:
    inputs = tokenizer(prompt, return_tensors="pt")
    # The end of a text is a token like any other.
    output = model.generate(**inputs, do_sample=False, max_new_tokens=int(count), eos_token_id=None)
    completions.append(output[0, inputs["input_ids"].shape[1] :].tolist())
print(json.dumps(completions))
