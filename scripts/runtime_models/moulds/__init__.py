"""Parts of the scripts that make models for engines other than llama.cpp."""
