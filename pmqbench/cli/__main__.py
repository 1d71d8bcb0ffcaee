"""The command, where it is not installed: python -m pmqbench.cli."""

from pmqbench.cli import main

if __name__ == "__main__":
    main()
