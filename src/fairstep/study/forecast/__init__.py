"""What a study will cost: its own searches, played on random objectives. Nothing here trains."""
