"""What a method runs on: the Run, with data, views, nets, seeds, checkpoints and processes."""
