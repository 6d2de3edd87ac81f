"""Where scans come from: fetching, checking, fingerprinting, grouping and splitting them."""
