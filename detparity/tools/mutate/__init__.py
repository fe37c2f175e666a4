"""`detparity mutate`: whether the suite sees what is wrong in a file, by mutants of a file that conforms."""
