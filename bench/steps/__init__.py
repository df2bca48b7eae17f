"""Single steps of the models: their times, where the time goes, and the bytes that they read."""
