"""The table of rows: journal, parts, index, and whose job it is."""
