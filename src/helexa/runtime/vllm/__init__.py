"""What the vLLM adapter knows, one idea a file; `adapters/vllm.py` is its face."""
