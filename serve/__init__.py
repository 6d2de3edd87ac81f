"""The scoring API and the page, around any pyfunc that takes an `image` column."""
