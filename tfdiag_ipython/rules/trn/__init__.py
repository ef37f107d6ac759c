"""Rules for the training loop and Trainer."""
