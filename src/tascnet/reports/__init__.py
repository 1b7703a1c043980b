"""What an evaluation found, as plain values, tables and files; and the evaluation of files that exist already."""
