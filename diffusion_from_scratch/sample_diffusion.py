"""A door: questions are answered in inference.py."""

from inference import main

if __name__ == "__main__":
    raise SystemExit(main())
