"""Who may use this cortex: API keys now; people and organisations sit beside them."""
