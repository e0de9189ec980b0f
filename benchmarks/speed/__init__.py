"""Speed: stream, learner, serving, drivers and checkpoints."""
