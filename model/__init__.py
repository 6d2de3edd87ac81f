"""What happens inside the model: pixels, the network, the runtime and the pyfunc."""
