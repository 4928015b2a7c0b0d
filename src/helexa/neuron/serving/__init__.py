"""The neuron's HTTP side: the OpenAI-shaped API, its doors, and the way of one request."""
