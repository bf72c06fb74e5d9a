"""The command line's verbs, one module each with `add_arguments(parser)` and `run(args, config) -> exit code`."""
