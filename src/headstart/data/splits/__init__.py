"""Who is in train, val and test: shared out, given, in folds, saved; no copy on two sides."""
