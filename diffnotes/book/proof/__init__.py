"""The independent side: checks of equations, sympy's symbols, exact chains with finitely many states."""
