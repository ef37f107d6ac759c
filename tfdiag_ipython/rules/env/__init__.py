"""Rules about CUDA: the build of torch, the driver and the card."""
