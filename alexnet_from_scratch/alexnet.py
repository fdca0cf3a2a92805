"""A door: AlexNet lives in model.py."""

from model import VARIANTS, AlexNet, LocalResponseNorm, main

__all__ = ["VARIANTS", "AlexNet", "LocalResponseNorm"]

if __name__ == "__main__":
    raise SystemExit(main())
