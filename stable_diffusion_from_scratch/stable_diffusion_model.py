"""A door: the U-Net and all three models in one live in model.py."""

from model import StableDiffusion, UNet, main

__all__ = ["StableDiffusion", "UNet"]

if __name__ == "__main__":
    raise SystemExit(main())
