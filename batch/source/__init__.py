"""Objects to score: listed, read from an inventory, fetched whole."""
