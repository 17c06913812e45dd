"""Write a host or a scheduler for wasmCloud v2."""
