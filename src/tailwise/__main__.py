"""``python -m tailwise``: the command line, as launchers of several processes want it."""

from tailwise.cli import main

if __name__ == "__main__":
    main()
