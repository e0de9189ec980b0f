"""Network layers and their training, in kernels."""
