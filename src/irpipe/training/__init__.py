"""Training from scratch: the plan, the trainer, the loop, resuming, Adam and initial weights."""
