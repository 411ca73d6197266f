"""What stores in a database share: transactions, group commit, change feeds, search."""
