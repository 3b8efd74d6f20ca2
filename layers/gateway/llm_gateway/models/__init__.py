"""Language models: which there are, what each takes and costs, what is said to it and what comes back."""
