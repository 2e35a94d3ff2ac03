"""One decoder: its parameters, the network, its cache, and Hugging Face folders."""
