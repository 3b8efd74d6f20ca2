"""OpenAI, and every vendor that speaks OpenAI's Chat Completions API."""
