"""What the llama.cpp adapter knows, one idea a file; `adapters/llama_cpp.py` is its face."""
