"""What a person does with a data set before training on it: check it, count it, convert it."""
