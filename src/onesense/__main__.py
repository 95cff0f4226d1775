"""``python -m onesense``."""

from onesense.cli.main import main

if __name__ == "__main__":
    main()
