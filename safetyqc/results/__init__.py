"""What commands answer to programs: shapes of findings, comparisons and reports, and the statistics in them."""
