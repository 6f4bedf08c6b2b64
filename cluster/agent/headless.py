"""vLLM's ranks on a node without an API server: what `vllm serve --headless` runs, without the command, which looks for
a distribution called vllm and fails where it was installed under another name. Arguments: those of `vllm serve`.
"""

import sys

from vllm.entrypoints.cli.serve import run_headless
from vllm.entrypoints.openai.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.utils.argparse_utils import FlexibleArgumentParser

if __name__ == "__main__":
    options = make_arg_parser(FlexibleArgumentParser()).parse_args(sys.argv[1:])
    validate_parsed_serve_args(options)
    options.api_server_count = 0
    run_headless(options)
