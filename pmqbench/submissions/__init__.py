"""Results that others send in: one JSON file each in `leaderboard/entries/`, checked and placed beside the local ones."""
