"""Pictures and masks from folders, splits by seed, and synthetic pictures for tests."""
