"""`python -m selfhost`, the same as the `selfhost` command."""

from selfhost.cli.main import main

if __name__ == "__main__":
    main()
