"""The OpenAI-compatible door of a cortex: `helexa.cortex.gateway.app.gateway` makes it."""
