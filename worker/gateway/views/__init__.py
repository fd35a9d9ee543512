"""What routes tell of backfills, trainings, dead letters and what was sent."""
