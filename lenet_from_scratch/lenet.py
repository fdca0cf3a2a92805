"""A door: LeNet lives in model.py."""

from model import LeNet, LeNet1998, main

__all__ = ["LeNet", "LeNet1998"]

if __name__ == "__main__":
    raise SystemExit(main())
