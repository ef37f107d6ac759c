"""TensorFlow and Keras weights given to PyTorch, and Keras around transformers."""
