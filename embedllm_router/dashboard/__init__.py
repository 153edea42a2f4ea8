"""The pages under /embedllm/: what was routed where, what it cost, what else could be had, and how it all is."""
