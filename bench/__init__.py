"""How fast it is: each figure beside a plain reference in the same run."""
