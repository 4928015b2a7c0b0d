"""Which architectures mistral.rs 0.9 knows, by the words of the files."""

from __future__ import annotations

from typing import Final

GGUF: Final = frozenset(
    {
        *("llama", "mistral3", "gemma", "gemma2", "phi2", "phi3", "phimoe", "qwen2", "qwen3"),
        *("qwen3moe", "qwen3next", "qwen35moe", "starcoder2", "deepseek2", "glm4", "glm4moe"),
        *("smollm3", "granite", "granitemoe", "granitehybrid", "gpt-oss", "hunyuan-dense"),
        *("hunyuan-moe", "lfm2", "lfm2moe"),
    }
)
"""Of `general.architecture`, for text."""

SAFETENSORS: Final = frozenset(
    {
        *("MistralForCausalLM", "MixtralForCausalLM", "GemmaForCausalLM", "Gemma2ForCausalLM"),
        *("PhiForCausalLM", "Phi3ForCausalLM", "PhiMoEForCausalLM", "LlamaForCausalLM"),
        *("Qwen2ForCausalLM", "Qwen3ForCausalLM", "Qwen3MoeForCausalLM", "Qwen3NextForCausalLM"),
        *("Starcoder2ForCausalLM", "DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM"),
        *("Glm4ForCausalLM", "Glm4MoeForCausalLM", "Glm4MoeLiteForCausalLM"),
        *("SmolLM3ForCausalLM", "GraniteMoeHybridForCausalLM", "GptOssForCausalLM"),
        *("Lfm2ForCausalLM", "Lfm2MoeForCausalLM"),
    }
)
"""Of the first of `architectures` in config.json."""
