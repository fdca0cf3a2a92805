"""A door: samples, and all other questions, live in inference.py."""

from inference import main

if __name__ == "__main__":
    raise SystemExit(main())
