"""What keeps the project itself in order; no distribution has it.

`reference` renders the tables of the documentation; `mutation` counts what the tests see.
"""
