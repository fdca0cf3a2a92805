"""A door: training lives in train.py."""

from train import main

if __name__ == "__main__":
    raise SystemExit(main())
