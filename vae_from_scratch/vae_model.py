"""A door: the autoencoder lives in model.py."""

from model import VAE, Decoder, Encoder, main

__all__ = ["VAE", "Decoder", "Encoder"]

if __name__ == "__main__":
    raise SystemExit(main())
