"""What is peculiar to servers that are OpenAI-compatible more or less, whoever wrote them."""
