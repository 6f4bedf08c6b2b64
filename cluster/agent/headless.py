"""vLLM's ranks on a node without an API server: what `vllm serve --headless` runs, without the command, which looks for
a distribution called vllm and fails where it was installed under another name. Arguments: those of `vllm serve`.
"""

import sys

# All from the module of the command itself: where they come from differs from release to release.
from vllm.entrypoints.cli.serve import (
    FlexibleArgumentParser,
    make_arg_parser,
    run_headless,
    validate_parsed_serve_args,
)

if __name__ == "__main__":
    options = make_arg_parser(FlexibleArgumentParser()).parse_args(sys.argv[1:])
    validate_parsed_serve_args(options)
    options.api_server_count = 0
    run_headless(options)
