"""A door: the network lives in model.py, the process that it undoes in diffusion.py."""

from diffusion import Diffusion, Sampling, denoise
from model import UNet, main

__all__ = ["Diffusion", "Sampling", "UNet", "denoise"]

if __name__ == "__main__":
    raise SystemExit(main())
