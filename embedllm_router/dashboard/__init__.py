"""The pages under /embedllm/: what was routed where, what it cost, what another trade-off would do, and how it all is."""
