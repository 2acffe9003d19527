"""A run directory, and everything that reads or writes one: record, card, page, comparison, leaderboard, upload."""
