"""`python -m embedllm_router` is the command line."""

from embedllm_router.cli.main import main

main()
