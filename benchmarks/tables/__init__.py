"""Published tables, reproduced by a command: `python -m benchmarks.tables reinmax2023`.

Each table is a YAML file beside this one: `dvae` knows how to train, the file says what. See
`benchmarks.tables.spec` for its keys.
"""

__all__: list[str] = []
