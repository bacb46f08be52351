"""How the book is printed: notebooks run and stored, scanned, indexed; numbers in prose taken from measurements."""
