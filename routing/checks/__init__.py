"""The proof of the engine on what is installed: `routing.check`, and what the engine's tests are made of."""
